/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_CLI_COMMAND_H
#define CLIENT_CLI_COMMAND_H

/* The command line: "weft NOUN VERB [OPTIONS] ARGUMENTS".
 *
 * Every command is a row of a table: its names, its options, its help, and the
 * function that runs it.  One parser, one help text and the shell completion
 * are made from the tables.
 *
 * Exit codes: 0 done, 1 failed, 2 usage.  Results go to stdout, all else to
 * stderr. */

#include <stdbool.h>
#include <stdint.h>

#include "client/libweft.h"
#include "lib/base/check.h"
#include "lib/rpc/error.h"

enum cli_exit {
    CLI_DONE = 0,
    CLI_FAILED = 1,
    CLI_USAGE = 2,
};

enum cli_output {
    CLI_TABLE,
    CLI_JSON,
};

struct cli;

struct cli_option {
    const char *name; /* Without "--".  NULL ends a list. */
    char letter;      /* Short form, or 0. */
    /* "SIZE"; NULL: a flag.  "NAME..." may be given again and again: see
     * cli_next_value(). */
    const char *argument;
    const char *help;
};

/* Who answers a command. */
enum cli_daemon {
    CLI_BLOCKD,
    CLI_NETD,
};

struct cli_command {
    const char *noun; /* NULL ends a list. */
    const char *verb; /* NULL: the noun is all ("weft status"). */
    /* Names of the arguments, separated by blanks, all required. */
    const char *arguments;
    const char *help;
    const struct cli_option *options; /* NULL: none. */
    enum cli_exit (*run)(struct cli *cli);
};

#define CLI_OPTION_MAX 16u
#define CLI_ARGUMENT_MAX 4u
#define CLI_REPEAT_MAX 64u
#define CLI_ENDPOINT_SIZE 512u

/* One run of the program. */
struct cli {
    const struct cli_command *command;
    const char *values[CLI_OPTION_MAX]; /* Beside command->options. */
    const char *arguments[CLI_ARGUMENT_MAX];
    struct {
        const struct cli_option *option;
        const char *value;
    } repeats[CLI_REPEAT_MAX]; /* All values of repeatable options. */
    uint32_t repeat_count;
    /* Options of all commands. */
    const char *project;
    const char *endpoint;
    char derived_endpoint[CLI_ENDPOINT_SIZE]; /* What 'endpoint' may be. */
    enum cli_output output;
    uint64_t timeout_ns; /* RPC_NO_TIMEOUT: none was given. */
    struct weft *weft;   /* Connected by cli_connect(). */
};

/* All tables, one a noun; ends with NULL. */
extern const struct cli_command *const cli_commands[];

extern const struct cli_command cli_host_commands[];
extern const struct cli_command cli_disk_commands[];
extern const struct cli_command cli_pool_commands[];
extern const struct cli_command cli_volume_commands[];
extern const struct cli_command cli_event_commands[];
extern const struct cli_command cli_operation_commands[];
extern const struct cli_command cli_status_commands[];
extern const struct cli_command cli_completion_commands[];
extern const struct cli_command cli_network_commands[];
extern const struct cli_command cli_subnet_commands[];
extern const struct cli_command cli_port_commands[];
extern const struct cli_command cli_router_commands[];
extern const struct cli_command cli_security_group_commands[];
extern const struct cli_command cli_security_rule_commands[];
extern const struct cli_command cli_net_commands[];

/* ---- parse.c ---- */

/* Options that every command takes; ends like any list. */
extern const struct cli_option cli_global_options[];

/* Fills 'cli'.  True: run its command.  False: the program is over, with
 * '*ret_exit'; help was printed, or what is wrong. */
bool cli_parse(int argc, char **argv, struct cli *cli, enum cli_exit *ret_exit);

/* The value of an option of the command; NULL if it was not given. */
const char *cli_value(const struct cli *cli, const char *name);
bool cli_flag(const struct cli *cli, const char *name);
/* All values of a repeatable option, one a call: '*cursor' is 0 at first; NULL
 * at the end. */
const char *cli_next_value(const struct cli *cli, const char *name,
                           uint32_t *cursor);

/* ---- endpoint.c ---- */

/* Where to reach the daemon of the command: what --endpoint says, or the
 * environment, or what follows from where blockd is. */
void cli_find_endpoint(struct cli *cli, const char *given);
enum cli_daemon cli_daemon_of(const struct cli_command *command);

/* ---- report.c ---- */

/* "weft: ..." on stderr. */
void cli_error(const char *format, ...) WEFT_PRINTF(1, 2);

/* The same with a hint at the command's help.  Returns CLI_USAGE. */
enum cli_exit cli_usage_error(const struct cli *cli, const char *format, ...)
    WEFT_PRINTF(2, 3);

/* What a call failed with: 'what' names what was being done to which object
 * ("create volume \"db\"").  Returns CLI_FAILED. */
enum cli_exit cli_call_error(const struct cli *cli, const char *what,
                             const struct rpc_error *error);

/* ---- call.c ---- */

/* Connects; CLI_DONE, or CLI_USAGE for a malformed endpoint. */
WEFT_MUST_CHECK enum cli_exit cli_connect(struct cli *cli);

/* One unary call, with a message about its failure; the caller frees
 * '*ret_reply'.  CLI_DONE or CLI_FAILED. */
WEFT_MUST_CHECK enum cli_exit
cli_call(struct cli *cli, const ProtobufCServiceDescriptor *service,
         const char *method, const ProtobufCMessage *request, const char *what,
         ProtobufCMessage **ret_reply);

/* The same for a method that returns an Operation, which is waited for.
 * '*ret_target', the name of what it worked on, is to be freed; may be
 * NULL. */
WEFT_MUST_CHECK enum cli_exit
cli_operate(struct cli *cli, const ProtobufCServiceDescriptor *service,
            const char *method, const ProtobufCMessage *request,
            const char *what, char **ret_target);

/* ---- check.c ---- */

/* A resource name out of its parts; 'project' may be NULL where the pattern
 * has none. */
#define CLI_NAME_SIZE 256

/* Each checks what the user gave and says what is wrong and what would be
 * right: CLI_DONE or CLI_USAGE.  'what' names the argument ("--pool",
 * "NAME").  A name may be given bare or as a whole resource name. */
WEFT_MUST_CHECK enum cli_exit
cli_check_name(const struct cli *cli, const char *what, const char *collection,
               const char *text, char ret_name[CLI_NAME_SIZE]);
/* projects/{project}/volumes/{volume}, and the project alone. */
WEFT_MUST_CHECK enum cli_exit cli_check_volume(const struct cli *cli,
                                               const char *text,
                                               char ret_name[CLI_NAME_SIZE]);
WEFT_MUST_CHECK enum cli_exit cli_check_project(const struct cli *cli,
                                                char ret_name[CLI_NAME_SIZE]);
WEFT_MUST_CHECK enum cli_exit
cli_check_size(const struct cli *cli, const char *what, const char *text,
               uint64_t min_bytes, uint64_t max_bytes, uint64_t *ret_bytes);
WEFT_MUST_CHECK enum cli_exit
cli_check_number(const struct cli *cli, const char *what, const char *text,
                 uint64_t min, uint64_t max, uint64_t *ret_number);
/* One of 'words', which ends with NULL; its index. */
WEFT_MUST_CHECK enum cli_exit cli_check_word(const struct cli *cli,
                                             const char *what, const char *text,
                                             const char *const *words,
                                             uint32_t *ret_index);

/* The last part of a resource name. */
const char *cli_short_name(const char *name);

/* ---- interrupt.c ---- */

/* Makes SIGINT and SIGTERM end calls and children, instead of the program, so
 * that it can clean up; a second signal ends it at once.  Before the first
 * thread is made. */
void cli_interrupt_init(void);

/* Whose calls are ended; NULL: none. */
void cli_interrupt_watch(struct weft *weft);

/* The child that is ended; 0: none. */
void cli_interrupt_child(int pid);

bool cli_is_interrupted(void);

/* Lets the calls of the clean-up through. */
void cli_interrupt_clear(void);

#endif /* CLIENT_CLI_COMMAND_H */
