/** Reads the clock for ever. */
public class Sites {
    static long sink;

    static long nanoseconds() {
        return System.nanoTime();
    }

    static long milliseconds() {
        return System.currentTimeMillis();
    }

    public static void main(String[] words) {
        for (;;)
            sink += nanoseconds() + milliseconds();
    }
}
