/* Each call that a vDSO may serve, once, after a word that a tracer sees: a write that fails. */
#define _GNU_SOURCE
#include <sched.h>
#include <string.h>
#include <sys/random.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static void say(const char *word)
{
	if (write(-1, word, strlen(word)) >= 0)
		_exit(1);
}

int main(void)
{
	static const struct {
		const char *name;
		int id;
	} clocks[] = {
		{"clock_gettime REALTIME", CLOCK_REALTIME},
		{"clock_gettime MONOTONIC_RAW", CLOCK_MONOTONIC_RAW},
		{"clock_gettime REALTIME_COARSE", CLOCK_REALTIME_COARSE},
		{"clock_gettime PROCESS_CPUTIME_ID", CLOCK_PROCESS_CPUTIME_ID},
	};
	struct timespec ts;
	struct timeval tv;
	char byte;

	for (unsigned i = 0; i < sizeof(clocks) / sizeof(clocks[0]); i++) {
		say(clocks[i].name);
		clock_gettime(clocks[i].id, &ts);
	}
	say("gettimeofday");
	gettimeofday(&tv, NULL);
	say("time");
	time(NULL);
	say("clock_getres MONOTONIC");
	clock_getres(CLOCK_MONOTONIC, &ts);
	say("sched_getcpu");
	sched_getcpu();
	say("getrandom");
	if (getrandom(&byte, 1, 0) != 1)
		return 1;
	say("end");
	return 0;
}
