// Reads the clock for ever by C++'s own means.
#include <chrono>
#include <cstdint>
#include <functional>
#include <vector>

#define APART __attribute__((noinline, noclone))

static volatile std::int64_t sink;

namespace app {
template <typename T> struct Timer {
	T kept{};
	APART std::int64_t system() { return std::chrono::system_clock::now().time_since_epoch().count() + sizeof kept; }
	APART std::int64_t steady() { return std::chrono::steady_clock::now().time_since_epoch().count() + sizeof kept; }
};
} // namespace app

int main() {
	app::Timer<std::vector<int>> timer;
	std::function<std::int64_t()> indirectly = [&] { return timer.system() + 1; };
	for (;;) {
		sink = sink + timer.system();
		sink = sink + timer.steady();
		sink = sink + indirectly();
	}
}
