/* Processes under measurement: started and stopped by the benchmark, their CPU time and memory. */
#ifndef DAYBOOK_TESTS_BENCH_PROCESS_H
#define DAYBOOK_TESTS_BENCH_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Starts a program with variables "NAME=value" added to the environment (NULL ends both lists), its
 * output in `log`. 0 when it can't be started. */
pid_t bench_start(const char *const *argv, const char *const *variables, const char *log);
/* Starts the command API of DAYBOOK_BIN_DIR on `port`, against DAYBOOK_TEST_COMMAND_URL, and waits
 * until it is ready. 0 when it doesn't get there; its log, build/bench/command-api.log, says why.
 */
pid_t bench_start_command_api(uint16_t port);
/* SIGTERM, then waits. */
void bench_stop(pid_t pid);
/* Until GET http://127.0.0.1:port/ready answers 200. */
bool bench_wait_ready(uint16_t port, int limit_ms);

/* CPU seconds that the process and, with `children`, its child processes have used. */
double bench_cpu_seconds(pid_t pid, bool children);
/* Resident memory in KiB. */
int64_t bench_rss_kib(pid_t pid);
/* The environment variable, or the process ends with one line. */
const char *bench_env(const char *name);
/* A positive number from the environment, or `otherwise`. */
double bench_env_number(const char *name, double otherwise);

#endif
