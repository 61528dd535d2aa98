/* connections.h: whether the server has as many connections as the settings ask for. */
#ifndef DOCTOR_CONNECTIONS_H
#define DOCTOR_CONNECTIONS_H

struct doctor;

void doctor_connections(struct doctor *d);

#endif
