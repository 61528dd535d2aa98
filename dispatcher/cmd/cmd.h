/* cmd.h: the subcommands of pgmqd; each parses its own arguments (argv[0] is the command's name) and returns the exit
 * status. */
#ifndef COMMANDS_H
#define COMMANDS_H

int cmd_run(int argc, char **argv);
int cmd_migrate(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_dlq(int argc, char **argv);
int cmd_bounce(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_pause(int argc, char **argv);
int cmd_resume(int argc, char **argv);
int cmd_send(int argc, char **argv);
int cmd_tail(int argc, char **argv);
int cmd_render(int argc, char **argv);
int cmd_schedule(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_plugin(int argc, char **argv);

#endif
