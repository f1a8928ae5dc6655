/* What Live.java calls: the functions of live.h as JNI wants them. */
#include <jni.h>

#include "live.h"

static struct live_page page;

JNIEXPORT jstring JNICALL Java_Live_open(JNIEnv *env, jclass class, jstring path)
{
	const char *text = (*env)->GetStringUTFChars(env, path, NULL);
	const char *wrong = live_open(&page, text);

	(void)class;
	(*env)->ReleaseStringUTFChars(env, path, text);
	return wrong == NULL ? NULL : (*env)->NewStringUTF(env, wrong);
}

JNIEXPORT jint JNICALL Java_Live_take(JNIEnv *env, jclass class, jobject out, jlongArray version)
{
	uint64_t seen = 0;
	int answer = live_snapshot_from(&page, (*env)->GetDirectBufferAddress(env, out), &seen);
	jlong value = (jlong)seen;

	(void)class;
	(*env)->SetLongArrayRegion(env, version, 0, 1, &value);
	return answer;
}

JNIEXPORT jdouble JNICALL Java_Live_half(JNIEnv *env, jclass class)
{
	(void)env;
	(void)class;
	return page.half();
}

JNIEXPORT jlong JNICALL Java_Live_version(JNIEnv *env, jclass class)
{
	(void)env;
	(void)class;
	return (jlong)page.version();
}
