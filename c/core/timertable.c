#include "timertable.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "procfs.h"
#include "threads.h"
#include "timerfd.h"
#include "timers.h"

#define FEW 64u  /* so many are kept without a look for those that are gone */
#define SHARE 20u /* of the time at the most, 1 in so many, is spent on looking where there is no room */

static uint32_t *bucket_of(struct vdso_timer_index *x, pid_t task, int id, bool descriptor)
{
	uint64_t key = (uint64_t)(uint32_t)task << 32 | (uint32_t)id << 1 | descriptor;

	return &x->bucket[(key * UINT64_C(0x9e3779b97f4a7c15)) >> 40 & (VDSO_FOLLOWER_TIMERS - 1)];
}

struct vdso_timer *vdso_timertable_find(const struct vdso_follower *f, pid_t task, int id, bool descriptor)
{
	struct vdso_timer_index *x = (struct vdso_timer_index *)&f->timer_index;

	for (uint32_t i = *bucket_of(x, task, id, descriptor); i != 0; i = x->next[i - 1]) {
		struct vdso_timer *t = &f->shared->timer[i - 1];

		if (t->task == task && t->id == id && t->descriptor == descriptor)
			return t;
	}
	return NULL;
}

static void enter(struct vdso_timer_index *x, const struct vdso_timer *t, uint32_t i)
{
	uint32_t *bucket = bucket_of(x, t->task, t->id, t->descriptor);

	x->next[i] = *bucket;
	*bucket = i + 1;
}

void vdso_timertable_drop(struct vdso_follower *f, struct vdso_timer *t)
{
	struct vdso_timer_index *x = &f->timer_index;
	uint32_t i = (uint32_t)(t - f->shared->timer), *at = bucket_of(x, t->task, t->id, t->descriptor);

	while (*at != i + 1)
		at = &x->next[*at - 1];
	*at = x->next[i];
	x->next[i] = x->free;
	x->free = i + 1;
	x->live--;
	t->program = 0;
}

void vdso_timertable_index(struct vdso_follower *f)
{
	struct vdso_timer_index *x = &f->timer_index;
	struct vdso_follower_shared *s = f->shared;

	memset(x->bucket, 0, sizeof(x->bucket));
	x->free = x->live = 0;
	while (s->timers > 0 && s->timer[s->timers - 1].program == 0)
		s->timers--;
	for (uint32_t i = s->timers; i-- > 0;) {
		if (s->timer[i].program == 0) {
			x->next[i] = x->free;
			x->free = i + 1;
		} else {
			enter(x, &s->timer[i], i);
			x->live++;
		}
	}
}

/* ---- those that are gone ---- */

/* The ids of a process's own timers, as the kernel lists them. */
struct ids {
	int *id; /* ascending */
	size_t count, room;
};

static int compare_ids(const void *a, const void *b)
{
	return (*(const int *)a > *(const int *)b) - (*(const int *)a < *(const int *)b);
}

/* False: the kernel does not say. */
static bool list_ids(pid_t program, struct ids *ret)
{
	char path[64], line[128];
	bool good = true;
	FILE *file;
	int id;

	ret->count = 0;
	snprintf(path, sizeof(path), "/proc/%d/timers", (int)program);
	file = fopen(path, "re");
	if (file == NULL)
		return false;
	while (good && fgets(line, sizeof(line), file) != NULL) {
		if (sscanf(line, "ID: %d", &id) != 1)
			continue;
		if (ret->count == ret->room) {
			size_t room = ret->room * 2 + FEW;
			int *more = realloc(ret->id, room * sizeof(*more));

			good = more != NULL;
			ret->id = good ? more : ret->id;
			ret->room = good ? room : ret->room;
		}
		if (good)
			ret->id[ret->count++] = id;
	}
	good = good && ferror(file) == 0;
	fclose(file);
	if (good && ret->count != 0)
		qsort(ret->id, ret->count, sizeof(*ret->id), compare_ids);
	return good;
}

static int compare_programs(const void *a, const void *b)
{
	const struct vdso_timer *left = *(struct vdso_timer *const *)a, *right = *(struct vdso_timer *const *)b;

	return (left->program > right->program) - (left->program < right->program);
}

/* Programs end without a word, and timers are deleted without one: theirs is the room that is made. */
static void sweep(struct vdso_follower *f)
{
	struct vdso_follower_shared *s = f->shared;
	struct vdso_timer **all = malloc(s->timers * sizeof(struct vdso_timer *));
	pid_t program = 0;
	struct ids ids = {0};
	bool over = false, listed = false;
	uint32_t count = 0;

	for (uint32_t i = 0; all != NULL && i < s->timers; i++)
		if (s->timer[i].program != 0)
			all[count++] = &s->timer[i];
	/* So that each program is asked once. */
	if (count != 0)
		qsort(all, count, sizeof(struct vdso_timer *), compare_programs);
	for (uint32_t i = 0; i < count; i++) {
		struct vdso_timer *t = all[i];

		if (t->program != program) {
			program = t->program;
			over = vdso_timers_is_over(t);
			listed = !over && list_ids(program, &ids);
		}
		if (t->descriptor)
			t->lost = over || !vdso_timerfd_is_there(t);
		if (vdso_timers_is_spent(t) ||
		    (!t->descriptor && (over || (listed && bsearch(&t->id, ids.id, ids.count, sizeof(int), compare_ids) == NULL))))
			vdso_timertable_drop(f, t);
	}
	vdso_timerfd_search(f);
	free(ids.id);
	free(all);
	vdso_timertable_index(f);
}

/* Looked through each time that as many have been added as were left by the last time; where all the room there is is taken, as
 * often as may be. */
static void make_room(struct vdso_follower *f)
{
	struct vdso_timer_index *x = &f->timer_index;
	uint64_t now = vdso_threads_now_ns(), took;

	if (f->shared->timers < (x->sweep_at > FEW ? x->sweep_at : FEW) || now < x->sweep_ns)
		return;
	sweep(f);
	took = vdso_threads_now_ns() - now;
	x->sweep_at = x->live * 2 < VDSO_FOLLOWER_TIMERS ? x->live * 2 : VDSO_FOLLOWER_TIMERS;
	if (x->sweep_at == VDSO_FOLLOWER_TIMERS)
		x->sweep_ns = now + SHARE * took;
}

struct vdso_timer *vdso_timertable_put(struct vdso_follower *f, const struct vdso_timer *timer)
{
	struct vdso_timer *place = vdso_timertable_find(f, timer->task, timer->id, timer->descriptor);
	struct vdso_timer_index *x = &f->timer_index;
	struct vdso_follower_shared *s = f->shared;
	uint32_t i;

	if (place != NULL) {
		*place = *timer;
		return place;
	}
	if (x->free == 0)
		make_room(f);
	if (x->free != 0) {
		i = x->free - 1;
		x->free = x->next[i];
	} else if (s->timers < VDSO_FOLLOWER_TIMERS) {
		i = s->timers++;
	} else {
		return NULL;
	}
	enter(x, timer, i);
	x->live++;
	s->timer[i] = *timer;
	return &s->timer[i];
}
