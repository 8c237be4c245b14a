/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cli/words.h"

enum cli_exit
cli_check_device_class(const struct cli *cli, const char *text,
                       Weft__V1__DeviceClass *ret_class)
{
    static const char *const words[] = { "hdd", "ssd", "nvme", "file", NULL };
    static const Weft__V1__DeviceClass classes[] = {
        WEFT__V1__DEVICE_CLASS__HDD,
        WEFT__V1__DEVICE_CLASS__SSD,
        WEFT__V1__DEVICE_CLASS__NVME,
        WEFT__V1__DEVICE_CLASS__FILE,
    };
    uint32_t index;
    enum cli_exit code =
        cli_check_word(cli, "--device-class", text, words, &index);
    if (code == CLI_DONE) {
        *ret_class = classes[index];
    }
    return code;
}

enum cli_exit
cli_check_failure_domain(const struct cli *cli, const char *text,
                         Weft__V1__FailureDomain *ret_domain)
{
    static const char *const words[] = { "host", "rack", NULL };
    static const Weft__V1__FailureDomain domains[] = {
        WEFT__V1__FAILURE_DOMAIN__FAILURE_DOMAIN_HOST,
        WEFT__V1__FAILURE_DOMAIN__FAILURE_DOMAIN_RACK,
    };
    uint32_t index;
    enum cli_exit code =
        cli_check_word(cli, "--failure-domain", text, words, &index);
    if (code == CLI_DONE) {
        *ret_domain = domains[index];
    }
    return code;
}
