/*
 * Decodes x86-64 code: the file named first, at the offsets in the file named second, one a line. Prints a line
 * "OFFSET LENGTH RIP_AT BRANCH_AT" each, with length 0 where no known instruction begins.
 */
#include "../../../c/core/decode.c"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	static uint8_t code[1 << 23];
	FILE *file = argc == 3 ? fopen(argv[1], "rb") : NULL, *offsets = argc == 3 ? fopen(argv[2], "r") : NULL;
	unsigned long at;
	size_t size;

	if (file == NULL || offsets == NULL)
		return 1;
	size = fread(code, 1, sizeof(code), file);
	while (fscanf(offsets, "%lu", &at) == 1) {
		struct vdso_instruction i;

		if (at >= size || !vdso_decode(code + at, size - at, &i))
			memset(&i, 0, sizeof(i));
		printf("%lu %u %u %u\n", at, i.length, i.rip_at, i.branch_at);
	}
	fclose(file);
	fclose(offsets);
	return 0;
}
