#include "common/runtime/process_identity.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The identity of a child that lives until `gate` is closed. */
static pid_t make_child(int gate, char out[PROCESS_IDENTITY_BYTES]) {
    int says[2];

    cr_assert_eq(pipe(says), 0);
    const pid_t pid = fork();
    if (pid == 0) {
        char text[PROCESS_IDENTITY_BYTES] = "";
        char byte;
        process_identity(text);
        (void)!write(says[1], text, sizeof(text));
        (void)!read(gate, &byte, 1);
        _exit(0);
    }
    cr_assert_eq(read(says[0], out, PROCESS_IDENTITY_BYTES), PROCESS_IDENTITY_BYTES);
    (void)close(says[0]);
    (void)close(says[1]);
    return pid;
}

Test(process_identity, a_process_has_ended_only_when_it_is_gone) {
    char own[PROCESS_IDENTITY_BYTES];
    char child[PROCESS_IDENTITY_BYTES];
    int gate[2];

    process_identity(own);
    cr_assert_not(process_identity_ended(own));
    cr_assert_eq(pipe(gate), 0);
    const pid_t pid = make_child(gate[0], child);
    cr_assert_str_neq(own, child);
    cr_assert_not(process_identity_ended(child));
    cr_assert_eq(write(gate[1], "x", 1), 1);
    (void)waitpid(pid, NULL, 0);
    cr_assert(process_identity_ended(child));
}

Test(process_identity, of_another_machine_or_an_unreadable_text_nothing_is_certain) {
    char own[PROCESS_IDENTITY_BYTES];
    static const char *const texts[] = {"", "?", "x/y/1/2", "////", "a/pid:[1]/999999/5"};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        cr_assert_not(process_identity_ended(texts[i]), "%s", texts[i]);
    }
    process_identity(own);
    own[0] = own[0] == 'a' ? 'b' : 'a'; /* another boot */
    *strrchr(own, '/') = '\0';
    cr_assert_not(process_identity_ended(own));
}

/* The same number given out again is another process. */
Test(process_identity, a_pid_in_use_again_is_another_process) {
    char own[PROCESS_IDENTITY_BYTES];

    process_identity(own);
    char *started = strrchr(own, '/') + 1;
    started[0] = started[0] == '1' ? '2' : '1';
    cr_assert(process_identity_ended(own));
}
