/** Asks for the time, and for nanoseconds, as often as it is told. */
public class Counted {
    public static void main(String[] arguments) {
        int count = Integer.parseInt(arguments[0]);
        long sum = 0;
        for (int i = 0; i < count; i++)
            sum += System.nanoTime() + System.currentTimeMillis();
        if (sum == 0)
            System.out.println("impossible");
    }
}
