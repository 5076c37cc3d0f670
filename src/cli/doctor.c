/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/doctor.h"
#include "cli/cli.h"

#include <stdarg.h>
#include <string.h>

static const char *const verdicts[] = {"ok", "warn", "fail"};

void doctor_say(struct doctor *doctor, enum verdict verdict, const char *name, const char *change,
                const char *format, ...)
{
    char detail[512];
    va_list args;
    json_t *check;

    va_start(args, format);
    vsnprintf(detail, sizeof(detail), format, args);
    va_end(args);
    doctor->count[verdict]++;
    check = json_pack("{s:s, s:s, s:s, s:s}", "scope", doctor->scope, "name", name, "result",
                      verdicts[verdict], "detail", detail);
    if (verdict != VERDICT_OK && change)
        json_object_set_new(check, "change", json_string(change));
    json_array_append_new(doctor->checks, check);
}

static void print_checks(const struct doctor *doctor)
{
    const char *scope = "";
    const json_t *check;
    size_t i;

    json_array_foreach(doctor->checks, i, check)
    {
        if (strcmp(scope, field_text(check, "scope")) != 0) {
            printf("%s%s\n", *scope ? "\n" : "", field_text(check, "scope"));
            scope = field_text(check, "scope");
        }
        printf("  %-4s  %-24s  %s\n", field_text(check, "result"), field_text(check, "name"),
               field_text(check, "detail"));
        if (*field_text(check, "change"))
            printf("        %-24s  -> %s\n", "", field_text(check, "change"));
    }
    printf("\nok: %u, to be considered: %u, failed: %u\n", doctor->count[VERDICT_OK],
           doctor->count[VERDICT_WARN], doctor->count[VERDICT_FAIL]);
}

int command_doctor(struct cli *cli, int argc, char **argv)
{
    struct doctor doctor = {.checks = json_array(), .scope = "machine"};
    int c = cli_option(cli, argc, argv, NULL);
    bool failed;

    if (c >= CLI_STOP) {
        json_decref(doctor.checks);
        return c - CLI_STOP;
    }
    doctor_machine(&doctor, cli->rundir);
    doctor_interfaces(&doctor, argv + optind, argc - optind);
    failed = doctor.count[VERDICT_FAIL] > 0;
    if (cli->json) {
        json_t *answer =
            json_pack("{s:b, s:i, s:i, s:i, s:O}", "ok", !failed, "passed",
                      (int)doctor.count[VERDICT_OK], "warnings", (int)doctor.count[VERDICT_WARN],
                      "failures", (int)doctor.count[VERDICT_FAIL], "checks", doctor.checks);

        json_dumpf(answer, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
        putchar('\n');
        json_decref(answer);
    } else {
        print_checks(&doctor);
    }
    json_decref(doctor.checks);
    return failed ? cli_fail("%u of the checks failed: change what the lines above say",
                             doctor.count[VERDICT_FAIL])
                  : CLI_OK;
}
