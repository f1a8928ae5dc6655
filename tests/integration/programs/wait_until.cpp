// wait_until MS [steady|system]: waits so long in each way that C++ has, by the steady clock and by the system's (or by one of
// them alone), and prints of each: its name, whether it ended as a wait that nothing has ended should, whether its clock has come to the
// deadline, and the host's microseconds that it took.
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <mutex>
#include <string>
#include <thread>

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long long host_us()
{
	timespec now;

	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now); // no session scales it
	return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

template <class Clock, class Wait> static void report(const char *clock, const char *name, std::chrono::milliseconds length, Wait wait)
{
	const auto deadline = Clock::now() + length;
	const long long began = host_us();
	const bool good = wait(deadline);

	std::printf("%s-%s %d %d %lld\n", clock, name, good, Clock::now() >= deadline, host_us() - began);
}

template <class Clock> static void all(const char *clock, std::chrono::milliseconds length)
{
	std::mutex mutex;
	std::condition_variable condition;
	std::timed_mutex held;
	std::promise<int> never;

	held.lock();
	report<Clock>(clock, "condition", length, [&](auto deadline) {
		std::unique_lock<std::mutex> lock(mutex);
		while (condition.wait_until(lock, deadline) != std::cv_status::timeout)
			;
		return true;
	});
	report<Clock>(clock, "predicate", length, [&](auto deadline) {
		std::unique_lock<std::mutex> lock(mutex);
		return !condition.wait_until(lock, deadline, [] { return false; });
	});
	report<Clock>(clock, "mutex", length, [&](auto deadline) {
		bool taken = true;
		std::thread([&] { taken = held.try_lock_until(deadline); }).join();
		return !taken;
	});
	report<Clock>(clock, "future", length, [&](auto deadline) {
		return never.get_future().wait_until(deadline) == std::future_status::timeout;
	});
	report<Clock>(clock, "sleep", length, [&](auto deadline) {
		std::this_thread::sleep_until(deadline);
		return true;
	});
}

int main(int argc, char **argv)
{
	const std::chrono::milliseconds length(argc > 1 ? std::atol(argv[1]) : 100);
	const std::string which = argc > 2 ? argv[2] : "";

	std::setvbuf(stdout, nullptr, _IOLBF, 0);
	if (which != "system")
		all<std::chrono::steady_clock>("steady", length);
	if (which != "steady")
		all<std::chrono::system_clock>("system", length);
	return 0;
}
