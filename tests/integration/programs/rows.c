/* Prints all of the record of rows.h, element by element, and then those of its functions that take an index. */
#include "rows.h"

int main(void)
{
	struct rows_page page;
	struct rows r;
	const char *wrong = rows_open(&page, NULL);
	char text[8];
	int i, j;

	if (wrong != NULL || rows_snapshot_from(&page, &r, NULL) != VDSO_OK) {
		fprintf(stderr, "%s\n", wrong != NULL ? wrong : "no record");
		return 1;
	}
	for (i = 0; i < 2; i++)
		for (j = 0; j < 3; j++)
			printf("%g %g ", (double)r.grid[i][j], (double)page.grid((size_t)(3 * i + j)));
	for (i = 0; i < 2; i++)
		for (j = 0; j < 2; j++)
			printf("%d,%g %d,%g ", r.points[i][j].x, r.points[i][j].y, page.points_x((size_t)(2 * i + j)),
			       page.points_y((size_t)(2 * i + j)));
	for (i = 0; i < 3; i++) {
		page.texts((size_t)i, text, sizeof(text));
		printf("%.4s %s ", r.texts[i], text);
	}
	for (i = 0; i < 2; i++) {
		page.blobs((size_t)i, text, 3);
		printf("%d%d%d %d%d%d ", r.blobs[i][0], r.blobs[i][1], r.blobs[i][2], text[0], text[1], text[2]);
	}
	printf("%.4s\n", r.inner.label);
	return 0;
}
