/** Prints the time for each line that it reads. */
public class Ticking {
    public static void main(String[] words) throws Exception {
        java.io.BufferedReader in = new java.io.BufferedReader(new java.io.InputStreamReader(System.in));
        for (int i = 0; i < 4; i++) {
            Thread reader = new Thread(() -> { while (true) System.currentTimeMillis(); });
            reader.setDaemon(true);
            reader.start();
        }
        System.out.println("ready");
        while (in.readLine() != null)
            System.out.println("wall " + System.currentTimeMillis() / 1e3 + " monotonic " + System.nanoTime() / 1e9);
    }
}
