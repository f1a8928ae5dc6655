/** Prints MONOTONIC, REALTIME and MONOTONIC again in ns, a line each time, until its standard input ends. */
public class Printing {
    public static void main(String[] words) throws Exception {
        Thread end = new Thread(() -> {
            try {
                while (System.in.read() >= 0);
            } catch (java.io.IOException gone) {
            }
            System.exit(0);
        });
        end.setDaemon(true);
        end.start();
        java.io.PrintStream out = new java.io.PrintStream(new java.io.FileOutputStream(java.io.FileDescriptor.out), true);
        while (true) {
            long before = System.nanoTime();
            java.time.Instant now = java.time.Instant.now();
            long after = System.nanoTime();
            out.println(before + " " + (now.getEpochSecond() * 1_000_000_000L + now.getNano()) + " " + after);
        }
    }
}
