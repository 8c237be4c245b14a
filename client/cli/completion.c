/* SPDX-License-Identifier: Apache-2.0 */
/* weft completion bash: prints a script, made from the tables of commands, to
 * be read by "source <(weft completion bash)". */

#include <stdio.h>
#include <string.h>

#include "client/cli/command.h"

static void
completion_options(const struct cli_option *options)
{
    for (; options != NULL && options->name != NULL; options++) {
        printf("--%s ", options->name);
    }
}

/* "noun) words="verb verb ..." ;;" */
static void
completion_verbs(const struct cli_command *table)
{
    printf("        %s) words=\"", table->noun);
    for (; table->noun != NULL; table++) {
        if (table->verb != NULL) {
            printf("%s ", table->verb);
        }
    }
    fputs("\" ;;\n", stdout);
}

static void
completion_command(const struct cli_command *command)
{
    printf("        \"%s%s%s\") options=\"", command->noun,
           command->verb != NULL ? " " : "",
           command->verb != NULL ? command->verb : "");
    completion_options(command->options);
    fputs("\" ;;\n", stdout);
}

static enum cli_exit
completion_bash(struct cli *cli)
{
    (void)cli;
    fputs("_weft() {\n"
          "    local word=\"${COMP_WORDS[COMP_CWORD]}\" words= options=\n"
          "    local previous=\"${COMP_WORDS[COMP_CWORD - 1]}\"\n"
          "    COMPREPLY=()\n"
          "    case \"$previous\" in\n"
          "        --output|-o) words=\"table json\" ;;\n"
          "        --failure-domain) words=\"host rack\" ;;\n"
          "        --device-class) words=\"hdd ssd nvme file\" ;;\n"
          "        --format) words=\"raw qcow2\" ;;\n"
          "        --direction) words=\"in out\" ;;\n"
          "        --proto) words=\"tcp udp sctp icmp any\" ;;\n"
          "        --family) words=\"ipv4 ipv6\" ;;\n"
          "        *) ;;\n"
          "    esac\n"
          "    if [ -n \"$words\" ]; then\n"
          "        COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
          "        return\n"
          "    fi\n"
          "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
          "        words=\"",
          stdout);
    for (size_t i = 0; cli_commands[i] != NULL; i++) {
        printf("%s ", cli_commands[i]->noun);
    }
    fputs("\"\n    elif [ \"$COMP_CWORD\" -eq 2 ]; then\n"
          "        case \"${COMP_WORDS[1]}\" in\n",
          stdout);
    for (size_t i = 0; cli_commands[i] != NULL; i++) {
        completion_verbs(cli_commands[i]);
    }
    fputs("        esac\n    fi\n"
          "    case \"${COMP_WORDS[1]} ${COMP_WORDS[2]}\" in\n",
          stdout);
    for (size_t i = 0; cli_commands[i] != NULL; i++) {
        const struct cli_command *command = cli_commands[i];
        for (; command->noun != NULL; command++) {
            completion_command(command);
        }
    }
    fputs("    esac\n    case \"$word\" in\n        -*) words=\"$options ",
          stdout);
    completion_options(cli_global_options);
    fputs("\" ;;\n    esac\n"
          "    COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
          "    if [ ${#COMPREPLY[@]} -eq 0 ] && [ \"$COMP_CWORD\" -gt 2 ]; "
          "then\n"
          "        COMPREPLY=($(compgen -f -- \"$word\"))\n"
          "    fi\n"
          "}\n"
          "complete -F _weft weft\n",
          stdout);
    return CLI_DONE;
}

const struct cli_command cli_completion_commands[] = {
    { "completion", "bash", "", "Print a completion script for bash", NULL,
      completion_bash },
    { .noun = NULL },
};
