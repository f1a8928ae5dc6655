// Live SHIM FILE READS: as live.c, in Java by JNI. The shim is LiveJni.c.
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;

public class Live {
    static native String open(String path);
    static native int take(ByteBuffer out, long[] version);
    static native double half();
    static native long version();

    static void must(boolean good, String what, long number) {
        if (!good) {
            System.err.println(what + " " + number);
            System.exit(1);
        }
    }

    public static void main(String[] words) {
        System.load(words[0]);
        String wrong = open(words[1]);
        must(wrong == null, wrong, 0);
        long reads = Long.parseLong(words[2]), last = 0, versions = 0;
        ByteBuffer r = ByteBuffer.allocateDirect(256).order(ByteOrder.nativeOrder());
        long[] seen = new long[1];
        for (long i = 0; i < reads || versions < 100; i++) {
            int answer = take(r, seen);
            if (answer == 2) {
                continue; // lapped
            }
            long n = seen[0];
            must(answer == 0 && r.getLong(0) == n && n >= last, "answer", n);
            must(r.getLong(8) == -n && r.getDouble(16) == n / 2.0, "a number", n);
            must(r.getFloat(24) == (n % 4096) / 4.0f && r.getInt(28) == (int) n, "a number", n);
            must(r.get(32) == (byte) n && r.get(33) == n % 2, "a number", n);
            byte[] text = new byte[16];
            r.get(34, text);
            must(new String(text, StandardCharsets.UTF_8).replace("\0", "").equals("v" + n % 100000000000000L), "text", n);
            for (int k = 0; k < 12; k++) {
                must(r.get(50 + k) == (byte) n, "bytes", n);
            }
            for (int k = 0; k < 10; k++) {
                must(r.getDouble(64 + 8 * k) == (double) n + k, "array", n);
            }
            for (int k = 0; k < 3; k++) {
                must(r.getDouble(144 + 16 * k) == (double) n * (k + 1) && r.getInt(152 + 16 * k) == (int) n + k, "nested", n);
            }
            must(r.getShort(192) == (short) n && r.getShort(194) == (short) ~n, "nested", n);
            double before = version() / 2.0, value = half();
            must(before <= value && value <= version() / 2.0, "a function", n);
            versions += n != last ? 1 : 0;
            last = n;
        }
        System.out.println(versions);
    }
}
