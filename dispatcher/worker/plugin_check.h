/* plugin_check.h: whether the settings of each queue suit its plugin. */
#ifndef PLUGIN_CHECK_H
#define PLUGIN_CHECK_H

#include "settings/settings.h"

/* Loads each queue's plugin and checks its options. 0, or 78 after a log line for each thing that is wrong. */
int check_main(const struct settings *settings);

#endif
