/* Would call time() at its fixed address, if it were given a word: as programs did before the vDSO. */
#include <stdio.h>

int main(int argc, char **argv)
{
	long (*volatile time_at)(long *) = (long (*)(long *))0xffffffffff600400;

	(void)argv;
	if (argc > 1)
		printf("%ld\n", time_at(NULL));
	return 0;
}
