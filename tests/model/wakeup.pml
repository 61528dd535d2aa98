/* wakeup.pml: a model of the handshake between the triggers (pgmqd.wakeup() in sql/020_pgmqd.sql) and the worker
 * (dispatcher/worker/wakeup.c, and the low-water mark of queue_run.c), for spin.
 *
 * Producers begin, enqueue or make rows due earlier, roll back to a savepoint, commit or roll back; dispatchers sleep, look,
 * stay awake, close, run out of slots, and die at any step (their session's end gives their locks back; a new one starts with
 * a full look).
 *
 * The second trigger runs for each row, and only for the first one of a transaction it goes through the handshake.
 *
 * A producer is as unlucky as can be with its clock and its transaction number: any message may appear below the mark of any
 * dispatcher. A look is full or begins at the mark, as it comes; one that was not full owes a full one, by a timer.
 *
 * Property: it never happens that a committed message waits, no notification is under way, and every dispatcher that is alive
 * sleeps without a timer.
 *
 * Advisory locks are try only, so each is one atomic step; "awake" is shared by a producer for one step only, to see whether it can be. A commit first makes the message visible, then gives the locks back,
 * then the notification arrives; all of these are steps of their own.
 *
 * -DBROKEN=1 leaves the last look out, =2 the "in flight" lock, =3 swaps the producer's two tries, =4 lets a new worker sleep
 * after a full look alone, without having had "in flight", =5 owes nothing after a look from the mark on, =6 lets the second
 * row of a transaction count although the first was rolled back to a savepoint: each of these must fail, see run.
 */
#ifndef PRODUCERS
#define PRODUCERS 2
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#ifndef BROKEN
#define BROKEN 0
#endif
#define DISPATCHERS 2

byte waiting;              /* committed, visible, unclaimed messages */
byte below;                /* those of them that appeared below the marks */
bool owes[DISPATCHERS];    /* a timer is set, and then comes a full look */
byte flight;               /* holders of "in flight", shared; the exclusive try is given back in the same step */
bool awake;                /* somebody holds "awake" exclusively */
byte notifying;            /* commits that are visible and have not notified yet */
bool notified[DISPATCHERS];
bool asleep[DISPATCHERS];
byte deaths = 1;           /* how many dispatchers may die in a run */

/* What one enqueue does inside its transaction. */
inline enqueue(has_flight, notify)
{
	if
	:: BROKEN == 2 -> skip
	:: BROKEN == 3 -> /* awake first */
		atomic { if :: !awake -> notify = true :: else -> skip fi }
		atomic { flight++; has_flight = true }
	:: BROKEN != 2 && BROKEN != 3 ->
		atomic { flight++; has_flight = true } /* the exclusive holder gives it back in the step in which it took it */
	:: BROKEN != 2 && BROKEN != 3 ->
		notify = true /* the try met that one step: notify anyway */
	fi;
	if
	:: BROKEN != 3 && (has_flight || BROKEN == 2) ->
		atomic { if :: !awake -> notify = true :: else -> skip fi }
	:: else -> skip
	fi
}

/* Gives a transaction's locks back. */
inline unlock(has_flight)
{
	atomic {
		if :: has_flight -> flight--; has_flight = false :: else -> skip fi
	}
}

proctype producer()
{
	bool has_flight, notify;
	byte round, d;

	do
	:: round == ROUNDS -> break
	:: else ->
		round++;
		has_flight = false; notify = false;
		enqueue(has_flight, notify);
		if
		:: skip /* or more rows of the same UPDATE, which pass the trigger by */
		:: /* back to a savepoint: the message, the locks and the notification are gone; another enqueue follows */
			unlock(has_flight);
			notify = false;
			if
			:: BROKEN == 6 -> skip /* it passes the trigger by, as if the first one still stood */
			:: else -> enqueue(has_flight, notify)
			fi
		fi;
		if
		:: /* commit */
			atomic {
				waiting++;
				if :: below++ :: skip fi;
				if :: notify -> notifying++ :: else -> skip fi
			};
			unlock(has_flight);
			if
			:: notify ->
				atomic {
					d = 0;
					do :: d < DISPATCHERS -> notified[d] = true; d++ :: else -> break od;
					notifying--
				}
			:: else -> skip
			fi
		:: /* roll back */
			unlock(has_flight)
		fi
	od
}

/* One claim: either it gets all that it asked for, and there may be more, or it has taken all there was to see. It takes
 * the oldest first. */
inline full_look()
{
	atomic {
		owes[me] = false;
		if
		:: waiting > 0 -> waiting--; more = true; if :: below > 0 -> below-- :: else -> skip fi
		:: waiting = 0; below = 0; more = false
		fi
	}
}

/* The same from the mark on: what is below is not seen. */
inline look()
{
	if
	:: full_look()
	:: atomic {
		owes[me] = (BROKEN != 5);
		if
		:: waiting > below -> waiting--; more = true
		:: waiting = below; more = false
		fi
	   }
	fi
}

/* Death at this step: the session's locks go, and a new process begins with a full look. */
inline may_die()
{
	if
	:: atomic { deaths > 0 -> deaths--; if :: mine -> awake = false; mine = false :: else -> skip fi; goto start }
	:: skip
	fi
}

proctype dispatcher(byte me)
{
	bool mine, more;

start:
	notified[me] = false; /* it listens, and then looks */
	if
	:: BROKEN == 4 -> skip
	:: else -> full_look(); goto tries /* somebody may have been silent because our former session was awake */
	fi;
looking:
	look();
	may_die();
	if
	:: more -> goto looking /* with the next free slot; until then this is not sleep */
	:: else -> skip
	fi;
	if
	:: skip /* an idle queue: no lock is asked for */
	:: atomic { if :: !awake -> awake = true; mine = true :: skip fi }; /* a burst; the try fails, too, when it meets a producer's */
		if :: mine -> goto busy :: else -> skip fi
	fi;
sleeping:
	atomic { asleep[me] = true };
	if
	:: atomic { notified[me] -> asleep[me] = false; notified[me] = false; goto looking }
	:: atomic { owes[me] -> asleep[me] = false }; full_look(); if :: more -> goto looking :: else -> goto sleeping fi
	:: atomic { deaths > 0 -> deaths--; asleep[me] = false; goto start }
	fi;
busy:
	look();
	may_die();
	if
	:: goto busy
	:: goto closing /* no message for a while, or no free slot */
	fi;
closing:
	atomic { awake = false; mine = false };
tries:
	may_die();
	if
	:: atomic { !awake -> awake = true; mine = true }; goto busy /* many messages meanwhile */
	:: BROKEN == 2 || flight == 0 -> skip /* had exclusively, and given back in the same step */
	:: BROKEN != 2 && flight != 0 ->
		if :: look() :: skip fi;
		goto tries
	fi;
	may_die();
	if
	:: BROKEN == 1 -> goto sleeping
	:: else -> goto looking /* the last look; with no free slot it comes when there is one */
	fi
}

init {
	byte i;

	atomic {
		i = 0;
		do :: i < PRODUCERS -> run producer(); i++ :: else -> break od;
		i = 0;
		do :: i < DISPATCHERS -> run dispatcher(i); i++ :: else -> break od
	}
}

#define lost (waiting > 0 && notifying == 0 && asleep[0] && asleep[1] && !notified[0] && !notified[1] && !owes[0] && !owes[1])
never {
	do
	:: lost -> break
	:: else
	od
}
