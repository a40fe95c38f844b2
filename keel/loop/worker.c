/* SPDX-License-Identifier: MIT */
#include "worker.h"

#include "seam/limit.h"

const struct worker_class *worker_class;

int worker_start(const char *name, const pthread_attr_t *attr,
                 void *(*fn)(void *arg), void *arg, pthread_t *ret)
{
    size_t stack_bytes = 0;

    int detached = PTHREAD_CREATE_JOINABLE;
    int rc;

    if (!worker_is_simulated()) {
        rc = -pthread_create(ret, attr, fn, arg);
        return rc < 0 ? limit_met(LIMIT_THREAD, rc) : 0;
    }
    if (attr) {
        pthread_attr_getstacksize(attr, &stack_bytes);
        pthread_attr_getdetachstate(attr, &detached);
    }
    rc = worker_class->start(name, stack_bytes, fn, arg, ret);
    if (rc == 0 && detached == PTHREAD_CREATE_DETACHED)
        worker_class->detach(*ret);
    return rc;
}

#ifdef KEEL_SIM_POINTS
void worker_point(void)
{
    if (worker_is_simulated())
        worker_class->point();
}
#endif

int worker_join(pthread_t thread)
{
    if (worker_is_simulated())
        return worker_class->join(thread);
    return -pthread_join(thread, NULL);
}

void worker_detach(pthread_t thread)
{
    if (worker_is_simulated())
        worker_class->detach(thread);
    else
        pthread_detach(thread);
}

void worker_name(const char *name)
{
    if (!worker_is_simulated())
        pthread_setname_np(pthread_self(), name);
}
