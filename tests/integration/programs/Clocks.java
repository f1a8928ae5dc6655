public class Clocks {
    public static void main(String[] arguments) throws Exception {
        System.out.println("wall " + System.currentTimeMillis() / 1000.0);
        System.out.println("wall " + java.time.Instant.now().getEpochSecond());
        System.out.println("monotonic " + System.nanoTime() / 1e9);
        Process child = new ProcessBuilder("date", "+wall %s").redirectErrorStream(true).start();
        System.out.print(new String(child.getInputStream().readAllBytes()));
        System.exit(child.waitFor());
    }
}
