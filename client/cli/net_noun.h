/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_CLI_NET_NOUN_H
#define CLIENT_CLI_NET_NOUN_H

/* What the nouns of the network have in common: resources of a project that
 * are created, listed, shown and deleted by name. */

#include "client/cli/list.h"

struct net_noun {
    const ProtobufCServiceDescriptor *service;
    const char *single;     /* "Network", as in the names of methods. */
    const char *plural;     /* "Networks" */
    const char *json;       /* "networks" */
    const char *collection; /* "networks", in resource names. */
    const char *word;       /* "network", for people. */
    const char *words;      /* "networks" */
    const char *const *header;
    cli_row_fn *row;
    cli_print_fn *print;
};

#define NET_WAIT_OPTION                                                     \
    {                                                                       \
        "wait", 'w', NULL, "return when all hosts concerned have confirmed" \
    }

/* A resource name out of what the user typed: bare, or whole. */
WEFT_MUST_CHECK enum cli_exit net_check(const struct cli *cli, const char *what,
                                        const char *collection,
                                        const char *text,
                                        char ret_name[CLI_NAME_SIZE]);
/* The same for the first argument of a noun that can only be bare. */
WEFT_MUST_CHECK enum cli_exit net_check_new(const struct cli *cli,
                                            const char *text);
/* An option that has to be there. */
WEFT_MUST_CHECK enum cli_exit net_need(const struct cli *cli, const char *name,
                                       const char **ret_value);
/* All values of a repeatable option as names in a collection, or as they are
 * (NULL).  Belongs to the caller: net_names_free(). */
struct net_names {
    char **names;
    size_t count;
};
WEFT_MUST_CHECK enum cli_exit net_names(const struct cli *cli,
                                        const char *option,
                                        const char *collection,
                                        struct net_names *ret_names);
void net_names_free(struct net_names *names);

/* The verbs.  Those of changes look at --wait, and show what came back as
 * JSON if that is asked for. */
enum cli_exit net_list(struct cli *cli, const struct net_noun *noun);
enum cli_exit net_show(struct cli *cli, const struct net_noun *noun);
enum cli_exit net_delete(struct cli *cli, const struct net_noun *noun);
/* '*ret_reply' may be NULL; else the caller frees it. */
WEFT_MUST_CHECK enum cli_exit
net_change(struct cli *cli, const struct net_noun *noun, const char *method,
           const ProtobufCMessage *request, const char *verb, const char *name,
           ProtobufCMessage **ret_reply);
/* Gives a change the time that --wait may take. */
bool net_wait(struct cli *cli);

#endif /* CLIENT_CLI_NET_NOUN_H */
