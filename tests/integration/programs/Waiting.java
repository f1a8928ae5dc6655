import java.util.Date;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executors;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReentrantLock;

/** Waiting MS [steady]: as wait_until.cpp, in the ways that Java has; by System.nanoTime(), which must be the host's. */
class Waiting {
    interface Wait {
        boolean run() throws Exception;
    }

    static void report(String name, Wait wait) throws Exception {
        long began = System.nanoTime();
        boolean good = wait.run();

        System.out.println(name + " " + (good ? 1 : 0) + " 1 " + (System.nanoTime() - began) / 1000);
    }

    public static void main(String[] arguments) throws Exception {
        long ms = Long.parseLong(arguments[0]);
        Object monitor = new Object();
        ReentrantLock lock = new ReentrantLock();
        var scheduler = Executors.newScheduledThreadPool(1, run -> {
            Thread thread = new Thread(run);
            thread.setDaemon(true);
            return thread;
        });

        report("steady-sleep", () -> {
            Thread.sleep(ms);
            return true;
        });
        report("steady-monitor", () -> {
            synchronized (monitor) {
                monitor.wait(ms);
            }
            return true;
        });
        report("steady-queue", () -> new ArrayBlockingQueue<Integer>(1).poll(ms, TimeUnit.MILLISECONDS) == null);
        report("steady-semaphore", () -> !new Semaphore(0).tryAcquire(ms, TimeUnit.MILLISECONDS));
        report("steady-future", () -> {
            try {
                new CompletableFuture<Integer>().get(ms, TimeUnit.MILLISECONDS);
                return false;
            } catch (TimeoutException expected) {
                return true;
            }
        });
        report("steady-scheduled", () -> scheduler.schedule(() -> true, ms, TimeUnit.MILLISECONDS).get());
        if (arguments.length > 1)
            return;
        report("system-park", () -> {
            long deadline = System.currentTimeMillis() + ms;

            while (System.currentTimeMillis() < deadline)
                LockSupport.parkUntil(deadline);
            return true;
        });
        report("system-condition", () -> {
            lock.lock();
            try {
                return !lock.newCondition().awaitUntil(new Date(System.currentTimeMillis() + ms));
            } finally {
                lock.unlock();
            }
        });
    }
}
