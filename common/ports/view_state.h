/* How an adapter tells its process whether the store behind it can be used. */
#ifndef DAYBOOK_PORTS_VIEW_STATE_H
#define DAYBOOK_PORTS_VIEW_STATE_H

enum view_state {
    VIEW_STARTING, /* never reached so far */
    VIEW_UP,
    VIEW_DOWN,  /* reached earlier or not, now it does not answer; tried again */
    VIEW_WRONG, /* it answers, but this process must not use it as the two are configured: an
                   operator's task */
};

/* Called on every change, from any thread. `reason`: one line, borrowed; "" when up. */
typedef void view_state_fn(void *arg, enum view_state state, const char *reason);

struct view_state_listener {
    view_state_fn *changed; /* NULL: nobody listens */
    void *arg;
};

#endif
