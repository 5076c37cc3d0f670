/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs scripts of segments, times and program actions against the engine (README.md has the
 * notation).
 *
 * Virtual time.  Every line has a time.  Before it is executed the clock moves there, timer by
 * timer; what the engine wants to send is pulled after every event and waits, with its time, for
 * the line that expects it.  Only an expectation (">") may find something waiting, and it must have
 * left at exactly the line's time.  Anything else that waits is a segment the script did not
 * foresee: an error.
 *
 * Checked without being asked for: every payload byte in both directions, a timestamp in every
 * segment or in none (C38), stamps that never step back, and that nothing notable (a FIN, a reset,
 * a timeout) happens unmentioned.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "script.h"

/* A line that describes the connection to be taken over. */
static void describe(struct script *s)
{
    if (s->open)
        line_fail(&s->line, "the connection is open already");
    while (s->line.at < s->line.words)
        setting(s, line_next(&s->line), &s->in.cached, false);
}

/* The import has to fail, for the reason named. */
static void refused(struct script *s)
{
    const char *why = line_next(&s->line);
    int error = first_import(s);

    if (!error || strcmp(refusal_name(error), why) != 0)
        line_fail(&s->line, "the import was refused for \"%s\"", refusal_name(error));
}

static void execute(struct script *s)
{
    bool first = true;
    const char *word;

    if (s->line.word[0][0] == '+') {
        s->script_time += parse_time(&s->line, line_next(&s->line) + 1);
        first = false;
    }
    if (!s->open && first && line_take(&s->line, "import")) {
        describe(s);
        return;
    }
    if (!s->open && first && line_take(&s->line, "refused")) {
        refused(s);
        return;
    }
    if (!s->open)
        open_now(s);
    word = line_next(&s->line);
    if (!(s->count && strcmp(word, ">") == 0))
        advance(s, s->script_time);
    if (strcmp(word, ">") == 0) {
        expect_segment(s);
        return;
    }
    /* Questions about what just happened may stand before the segments it brought about. */
    if (s->count && strcmp(word, "events") != 0 && strcmp(word, "expect") != 0)
        fail_waiting(s, "a segment left that no line expects");
    if (strcmp(word, "<") == 0)
        incoming(s);
    else if (!program_verb(s, word))
        line_fail(&s->line, "unknown verb \"%s\"", word);
    if (s->line.at < s->line.words)
        line_fail(&s->line, "\"%s\" is one word too many", s->line.word[s->line.at]);
}

static int run_script(const char *path)
{
    struct script *s = calloc(1, sizeof(*s));
    const char *base = strrchr(path, '/');
    char text[512];
    FILE *file = fopen(path, "r");

    if (!s || !file) {
        printf("%s: cannot be read\n", path);
        return 1;
    }
    s->line.file = base ? base + 1 : path;
    s->conn = aligned_alloc(64, (tcp_conn_size() + 63) / 64 * 64);
    set_defaults(s);
    while (fgets(text, sizeof(text), file)) {
        text[strcspn(text, "\n")] = 0;
        s->line.number++;
        line_split(&s->line, text);
        if (s->line.words)
            execute(s);
    }
    if (s->count)
        fail_waiting(s, "the script ends, but a segment left that no line expects");
    if (s->events & NOTABLE)
        line_fail(&s->line, "the script ends without mentioning events 0x%x", s->events & NOTABLE);
    if (!s->snd)
        line_fail(&s->line, "the script does nothing");
    fclose(file);
    free(s->conn);
    free(s->snd);
    free(s->rcv);
    free(s);
    return 0;
}

/* Each in its own process: an assertion of the engine is the failure of one script. */
static bool run_alone(const char *path)
{
    const char *base = strrchr(path, '/');
    int status;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child == 0) {
        alarm(20);
        exit(run_script(path));
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        return false;
    if (WIFSIGNALED(status))
        printf("%s: ended by signal %d\n", base ? base + 1 : path, WTERMSIG(status));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static int is_script(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);

    return len > 4 && strcmp(entry->d_name + len - 4, ".seg") == 0;
}

/** Arguments: scripts, or folders of scripts. */
int main(int argc, char **argv)
{
    unsigned passed = 0, failed = 0;

    for (int i = 1; i < argc; i++) {
        struct dirent **list;
        int n = scandir(argv[i], &list, is_script, alphasort);

        if (n < 0) {
            run_alone(argv[i]) ? passed++ : failed++;
            continue;
        }
        for (int k = 0; k < n; k++) {
            char path[4096];

            snprintf(path, sizeof(path), "%s/%s", argv[i], list[k]->d_name);
            run_alone(path) ? passed++ : failed++;
            free(list[k]);
        }
        free(list);
    }
    printf("%u passed, %u failed\n", passed, failed);
    return failed || !passed ? 1 : 0;
}
