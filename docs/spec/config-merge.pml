/*
 * How copies of a configuration merge, for spin (spinroot.com): three nodes make operations and take each other's, in any order.
 * config-merge.md says what is in the model and how it is run.
 *
 * Each operation writes to one register of strategy max, perhaps as an override, and to one of strategy review. What a node does when it
 * takes one follows internal/crdt line by line: Extreme.Put, Extreme.PutOverride, MVR.Put. After each step the node's state is held
 * against what the set of its operations comes to by definition, which knows nothing of any order.
 */

#ifndef OPS
#define OPS 3 /* operations in a run */
#endif
#ifndef VALUES
#define VALUES 2 /* different values */
#endif
#ifndef SKEW
#define SKEW 1 /* by how many ticks a clock may jump ahead */
#endif
#define NODES 3
#define NONE 15
#define FIRST OPS /* the epoch before any override */

typedef Op {
	byte at;    /* its time; with the same, the number decides, as actor, node and number do */
	bool over;  /* an override of the max */
	byte value;
	byte epoch; /* the override that its maker had seen */
	byte seen   /* the siblings that its maker had seen: a bit each */
}

typedef Node {
	byte has;         /* the operations that it has: a bit each */
	byte clock;
	byte over;        /* Extreme.Override */
	byte best[OPS+1]; /* Extreme.Best, by epoch */
	byte sib;         /* MVR.Siblings */
	byte gone;        /* MVR.Gone */
	byte agreed       /* MVR.Agreed */
}

Op op[OPS];
Node node[NODES];
byte made;

hidden byte i, j, e, n, o, cur, top, latest, dominated, before;

#define in(set, x)      (((set) >> (x)) & 1)
#define later(a, b)     ((b) == NONE || ((a) != NONE && (op[a].at > op[b].at || (op[a].at == op[b].at && (a) > (b)))))
#define higher(a, b)    ((b) == NONE || op[a].value > op[b].value || (op[a].value == op[b].value && later(a, b)))
#define epoch(x)        (node[x].over == NONE -> FIRST : node[x].over)
#define known(x, d)     ((d) == FIRST || in(node[x].has, d))

/* The value of a max: the override's or a higher one of its epoch; 0 if there is none. */
#define best(x)         node[x].best[epoch(x)]
#define valueOver(x)    (node[x].over == NONE -> 0 : op[node[x].over].value)
#define valueBest(x)    (best(x) == NONE -> 0 : op[best(x)].value)
#define value(x)        (valueBest(x) > valueOver(x) -> valueBest(x) : valueOver(x))

/* take is State.Apply of operation o at node n. */
inline take() {
	cur = epoch(n);
	before = value(n);
	node[n].has = node[n].has | (1 << o);
	if
	:: op[o].at > node[n].clock -> node[n].clock = op[o].at
	:: else
	fi;
	if
	:: op[o].over && later(o, node[n].over) -> node[n].over = o; node[n].best[cur] = NONE
	:: op[o].over && !later(o, node[n].over) -> node[n].best[o] = NONE
	:: !op[o].over && op[o].epoch != cur && known(n, op[o].epoch) -> skip /* the epoch is over */
	:: else ->
		if
		:: higher(o, node[n].best[op[o].epoch]) -> node[n].best[op[o].epoch] = o
		:: else
		fi
	fi;
	/* Within an epoch a max does not fall. */
	assert(cur != epoch(n) || value(n) >= before);
	/* A write that had not seen the override in force changes nothing. */
	assert(op[o].over || op[o].epoch == epoch(n) || value(n) == before);
	i = 0;
	do
	:: i < OPS ->
		if
		:: in(op[o].seen, i) && in(node[n].sib, i) ->
			node[n].sib = node[n].sib & ~(1 << i);
			if
			:: later(i, node[n].agreed) -> node[n].agreed = i
			:: else
			fi
		:: in(op[o].seen, i) && !in(node[n].sib, i) && !in(node[n].has, i) -> node[n].gone = node[n].gone | (1 << i)
		:: else
		fi;
		i++
	:: else -> break
	od;
	if
	:: in(node[n].gone, o) ->
		node[n].gone = node[n].gone & ~(1 << o);
		if
		:: later(o, node[n].agreed) -> node[n].agreed = o
		:: else
		fi
	:: else -> node[n].sib = node[n].sib | (1 << o)
	fi
}

/* check holds node n against what its operations come to by definition. */
inline check() {
	/* The latest override is in force. */
	cur = NONE; dominated = 0; i = 0;
	do
	:: i < made ->
		if
		:: in(node[n].has, i) ->
			dominated = dominated | op[i].seen;
			if
			:: op[i].over && later(i, cur) -> cur = i
			:: else
			fi
		:: else
		fi;
		i++
	:: else -> break
	od;
	assert(node[n].over == cur);
	/* Of its epoch, and of those whose override has not come, the highest is kept; of the others nothing. */
	e = 0;
	do
	:: e <= OPS ->
		top = NONE; j = 0;
		do
		:: j < made ->
			if
			:: in(node[n].has, j) && !op[j].over && op[j].epoch == e && higher(j, top) -> top = j
			:: else
			fi;
			j++
		:: else -> break
		od;
		assert(node[n].best[e] == ((e == epoch(n) || !known(n, e)) -> top : NONE));
		e++
	:: else -> break
	od;
	/* The siblings are the writes that nobody names; what is named and has not come waits; the last one that was replaced was agreed on. */
	assert(node[n].sib == (node[n].has & ~dominated));
	assert(node[n].gone == (dominated & ~node[n].has));
	latest = NONE; i = 0;
	do
	:: i < made ->
		if
		:: in(node[n].has & dominated, i) && later(i, latest) -> latest = i
		:: else
		fi;
		i++
	:: else -> break
	od;
	assert(node[n].agreed == latest);
	/* Who has something has a value, and of the writes that replaced others one is left. */
	assert(node[n].has == 0 || node[n].sib != 0);
	/* Nodes with the same operations are the same. */
	i = 0;
	do
	:: i < NODES ->
		assert(node[i].has != node[n].has || (node[i].over == node[n].over && best(i) == best(n) && node[i].sib == node[n].sib
			&& node[i].gone == node[n].gone && node[i].agreed == node[n].agreed));
		i++
	:: else -> break
	od
}

/* make lets node n make an operation of which over, value, at and how much it saw are set already. */
inline make() {
	o = made;
	made++;
	op[o].epoch = (op[o].over -> FIRST : epoch(n));
	/* Who saw something has the later time. */
	i = 0;
	do
	:: i < o -> assert(!in(node[n].has, i) || op[i].at < op[o].at); i++
	:: else -> break
	od;
	take();
	/* Whoever overrides gets what he wants, and who saw that goes on from there. */
	assert((op[o].over && value(n) == op[o].value) || (!op[o].over && value(n) >= op[o].value));
	/* Who saw all siblings leaves one. */
	assert(op[o].seen == 0 || node[n].sib == (1 << o));
	check()
}

init {
	byte who, kind, v, skew, what;
	d_step {
		n = 0;
		do
		:: n < NODES ->
			node[n].over = NONE; node[n].agreed = NONE; e = 0;
			do
			:: e <= OPS -> node[n].best[e] = NONE; e++
			:: else -> break
			od;
			n++
		:: else -> break
		od
	}
	do
	:: made < OPS ->
		atomic {
			select(who : 0 .. (made < NODES-1 -> made : NODES-1)); /* nodes are alike until they have made something */
			select(kind : 0 .. 3); /* a write or an override, by somebody who saw the siblings or none */
			select(v : 1 .. VALUES);
			select(skew : 0 .. SKEW);
			d_step {
				n = who;
				op[made].over = kind & 1;
				op[made].value = v;
				op[made].at = node[n].clock + 1 + skew;
				op[made].seen = ((kind & 2) -> node[n].sib : 0);
				make();
				who = 0; kind = 0; v = 0; skew = 0
			}
		}
	:: made > 0 ->
		atomic {
			select(who : 0 .. NODES-1);
			select(what : 0 .. OPS-1);
			if
			:: what < made && !in(node[who].has, what) -> d_step { n = who; o = what; take(); check(); who = 0; what = 0 }
			:: else -> who = 0; what = 0
			fi
		}
	:: made == OPS && node[0].has == (1 << OPS) - 1 && node[1].has == node[0].has && node[2].has == node[0].has -> break
	od
}
