// The `_sim` module: what the SIM board needs from the operating system and MicroPython lacks.
// - reset: the process replaces itself by a fresh copy of itself, as a chip starts over;
// - the watchdog: a timer that resets whatever the program is doing;
// - timers whose callbacks run between two bytecodes, as on the chip, and not within what is C there;
// - the power: how many flash operations are left before it is cut;
// - the serial line of the REPL: raw, with or without Ctrl-C, as micropython.kbd_intr() says;
// - the real-time clock: time() and gettimeofday(), which the linker sends here (--wrap), as it does
//   mp_hal_set_interrupt_char().

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "py/mphal.h"
#include "py/runtime.h"

#define PWRON_RESET (1)
#define WDT_RESET (3)
#define SOFT_RESET (5)

#define MAX_TIMERS (8) // the chip's, and four virtual ones

#define SECONDS_1970_TO_2000 (946684800LL)

// Since 1.28, MicroPython's time is of 64 bits where the host's is of 32: glibc has other functions for that.
#if defined(_TIME_BITS) && _TIME_BITS == 64 && __TIMESIZE == 32
#define real_gettimeofday __real___gettimeofday64
#define wrap_gettimeofday __wrap___gettimeofday64
#define wrap_time __wrap___time64
#else
#define real_gettimeofday __real_gettimeofday
#define wrap_gettimeofday __wrap_gettimeofday
#define wrap_time __wrap_time
#endif
extern int real_gettimeofday(struct timeval *tv, void *tz);
int wrap_gettimeofday(struct timeval *tv, void *tz);
time_t wrap_time(time_t *t);

// What outlives a reset goes to the next process in its environment. These strings are part of
// the environment from the start, so that a reset out of a signal handler need not allocate.
#define CAUSE_VAR "SIM_RESET_CAUSE="
#define CUT_VAR "SIM_CUT="
#define RTC_VAR "SIM_RTC="
#define WDT_VAR "SIM_WDT="
static char env_cause[] = CAUSE_VAR "0";
static char env_cut[32];
static char env_rtc[40];
static char env_wdt[] = WDT_VAR "0000000000";

static char **first_argv;
static int first_cwd;
static int reset_cause = PWRON_RESET;
static long operations_left; // 0: the power stays on
static long long rtc_offset_us; // the board's clock minus the host's
static pthread_t first_thread;
static timer_t timers[MAX_TIMERS];
static bool timer_made[MAX_TIMERS];

static void set_operations_left(long n) {
    operations_left = n;
    snprintf(env_cut, sizeof(env_cut), CUT_VAR "%ld", n);
}

// In two numbers, as MicroPython's own snprintf() knows no long long.
static void set_rtc_offset(long long us) {
    rtc_offset_us = us;
    snprintf(env_rtc, sizeof(env_rtc), RTC_VAR "%ld %ld", (long)(us / 1000000), (long)(us % 1000000));
}

static long long host_us(void) {
    struct timeval tv;
    real_gettimeofday(&tv, NULL);
    return tv.tv_sec * 1000000LL + tv.tv_usec;
}

// SIM_CLOCK=unset is an ESP32 whose clock nobody has set since power on.
static long long first_rtc_offset(void) {
    const char *rtc = getenv("SIM_RTC");
    if (rtc != NULL) {
        // The clock goes on over a reset.
        char *rest;
        long long seconds = strtol(rtc, &rest, 10);
        return seconds * 1000000 + strtol(rest, NULL, 10);
    }
    const char *clock = getenv("SIM_CLOCK");
    if (clock == NULL || *clock == '\0') {
        return 0;
    }
    long long start = strcmp(clock, "unset") == 0 ? SECONDS_1970_TO_2000 : atoll(clock);
    return start * 1000000LL - host_us();
}

static void on_watchdog(int sig);

static void set_watchdog(long ms) {
    struct sigaction action = { .sa_handler = on_watchdog, .sa_flags = SA_NODEFER };
    struct itimerval timer = { .it_value = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 } };
    // SA_NODEFER: a signal blocked here would stay blocked after the exec.
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);
}

// Runs before main(), as the clock must be right from the first look at it.
// The C library hands main()'s arguments to constructors as well.
__attribute__((constructor)) static void power_on(int argc, char **argv) {
    (void)argc;
    first_argv = argv;
    first_thread = pthread_self();
    first_cwd = open(".", O_RDONLY | O_CLOEXEC);
    const char *cause = getenv("SIM_RESET_CAUSE");
    if (cause != NULL && atoi(cause) != 0) {
        reset_cause = atoi(cause);
    }
    const char *cut = getenv("SIM_CUT");
    set_operations_left(cut != NULL ? atol(cut) : 0);
    set_rtc_offset(first_rtc_offset());
    // A watchdog can't be stopped: only a reset of the chip ends it, not one of MicroPython.
    const char *wdt = getenv("SIM_WDT");
    if (reset_cause == SOFT_RESET && wdt != NULL && atol(wdt) > 0) {
        set_watchdog(atol(wdt));
    }
    putenv(env_wdt);
    putenv(env_cause);
    putenv(env_cut);
    putenv(env_rtc);
    // The chip knows no time zone: localtime() is gmtime().
    setenv("TZ", "UTC0", 1);
}

static bool serial;
static void set_line(bool interrupts);

// Only calls that are allowed in a signal handler, as the watchdog's is one.
static void restart(int cause) {
    static const struct itimerval off;
    struct itimerval left;
    setitimer(ITIMER_REAL, &off, &left); // it would outlive the exec, the handler would not
    long ms = 0;
    if (cause == SOFT_RESET && (left.it_value.tv_sec != 0 || left.it_value.tv_usec != 0)) {
        ms = left.it_value.tv_sec * 1000 + left.it_value.tv_usec / 1000 + 1;
    }
    for (char *digit = env_wdt + sizeof(env_wdt) - 2; digit >= env_wdt + sizeof(WDT_VAR) - 1; --digit) {
        *digit = '0' + ms % 10;
        ms /= 10;
    }
    for (int i = 0; i < MAX_TIMERS; ++i) {
        static const struct itimerspec stopped;
        if (timer_made[i]) {
            timer_settime(timers[i], 0, &stopped, NULL); // its signal would, if it came just now
        }
    }
    if (serial) {
        // Nothing handles Ctrl-C until the fresh copy's REPL does.
        set_line(false);
        signal(SIGINT, SIG_IGN);
    }
    env_cause[sizeof(env_cause) - 2] = '0' + cause;
    if (fchdir(first_cwd) != 0) {
        _exit(1);
    }
    for (int fd = STDERR_FILENO + 1; fd < 1024; ++fd) {
        close(fd);
    }
    execv("/proc/self/exe", first_argv);
    _exit(1);
}

static void on_watchdog(int sig) {
    (void)sig;
    static const char message[] =
        "E task_wdt: Task watchdog got triggered. The following tasks/users did not reset the watchdog in time:\n"
        "E task_wdt:  - mpy_machine_wdt\n";
    if (write(STDERR_FILENO, message, sizeof(message) - 1) < 0) {
        // A board nobody listens to resets all the same.
    }
    restart(WDT_RESET);
}

// The scheduler takes this for an interrupt. As on the chip, a full queue loses the call.
static void on_timer(int sig, siginfo_t *info, void *context) {
    (void)sig;
    (void)context;
    int saved = errno;
    mp_obj_t *timer = MP_STATE_VM(sim_timers) + 2 * info->si_value.sival_int;
    if (timer[0] != MP_OBJ_NULL) {
        mp_sched_schedule(timer[0], timer[1]);
    }
    errno = saved;
}

int wrap_gettimeofday(struct timeval *tv, void *tz) {
    int ret = real_gettimeofday(tv, tz);
    long long us = tv->tv_sec * 1000000LL + tv->tv_usec + rtc_offset_us;
    tv->tv_sec = us / 1000000;
    tv->tv_usec = us % 1000000;
    return ret;
}

time_t wrap_time(time_t *t) {
    struct timeval tv;
    wrap_gettimeofday(&tv, NULL);
    if (t != NULL) {
        *t = tv.tv_sec;
    }
    return tv.tv_sec;
}

// reset(cause): start over. Does not return.
static mp_obj_t sim_reset(mp_obj_t cause) {
    fflush(NULL);
    restart(mp_obj_get_int(cause));
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_1(sim_reset_obj, sim_reset);

static mp_obj_t sim_cause(void) {
    return MP_OBJ_NEW_SMALL_INT(reset_cause);
}
static MP_DEFINE_CONST_FUN_OBJ_0(sim_cause_obj, sim_cause);

// halt(status): the power is off. Nothing is cleaned up, as nothing is on a chip.
static mp_obj_t sim_halt(mp_obj_t status) {
    fflush(NULL);
    _exit(mp_obj_get_int(status));
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_1(sim_halt_obj, sim_halt);

// cut(): called once for each flash operation; True when the power fails in this one.
static mp_obj_t sim_cut(void) {
    if (operations_left <= 0) {
        return mp_const_false;
    }
    set_operations_left(operations_left - 1);
    return mp_obj_new_bool(operations_left == 0);
}
static MP_DEFINE_CONST_FUN_OBJ_0(sim_cut_obj, sim_cut);

// watchdog(ms): reset in ms milliseconds unless called again.
static mp_obj_t sim_watchdog(mp_obj_t ms_in) {
    set_watchdog(mp_obj_get_int(ms_in));
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_1(sim_watchdog_obj, sim_watchdog);

// timer(id, ms, repeat, callback, arg): call callback(arg) in ms milliseconds; 0 stops it.
static mp_obj_t sim_timer(size_t n_args, const mp_obj_t *args) {
    (void)n_args;
    int id = mp_obj_get_int(args[0]);
    mp_int_t ms = mp_obj_get_int(args[1]);
    if (!timer_made[id]) {
        struct sigaction action = { .sa_sigaction = on_timer, .sa_flags = SA_SIGINFO | SA_NODEFER };
        struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2, .sigev_value.sival_int = id };
        sigaction(SIGUSR2, &action, NULL);
        if (timer_create(CLOCK_MONOTONIC, &event, &timers[id]) != 0) {
            mp_raise_OSError(errno);
        }
        timer_made[id] = true;
    }
    struct itimerspec time = { .it_value = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 } };
    if (mp_obj_is_true(args[2])) {
        time.it_interval = time.it_value;
    }
    mp_obj_t *timer = MP_STATE_VM(sim_timers) + 2 * id;
    timer[0] = MP_OBJ_NULL;
    timer[1] = args[4];
    timer[0] = args[3] == mp_const_none ? MP_OBJ_NULL : args[3];
    timer_settime(timers[id], 0, &time, NULL);
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(sim_timer_obj, 5, 5, sim_timer);

// hold(True): no callbacks until hold(False), which nests. For what is one call into C on the chip.
static mp_obj_t sim_hold(mp_obj_t on) {
    if (mp_obj_is_true(on)) {
        mp_sched_lock();
    } else {
        mp_sched_unlock();
    }
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_1(sim_hold_obj, sim_hold);

// set_clock(s): it is s seconds after 1970 now.
static mp_obj_t sim_set_clock(mp_obj_t seconds) {
    set_rtc_offset(mp_obj_get_int(seconds) * 1000000LL - host_us());
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_1(sim_set_clock_obj, sim_set_clock);

// Standard input is a chip's UART: every byte passes as it is, but for Ctrl-C while it interrupts.

static volatile bool interruptible;

static void set_line(bool interrupts) {
    struct termios line;
    if (tcgetattr(STDIN_FILENO, &line) != 0) {
        return;
    }
    line.c_iflag = 0;
    line.c_oflag = 0;
    line.c_cflag |= CS8 | CREAD;
    // NOFLSH: a chip loses nothing of what else has come.
    line.c_lflag = interrupts ? ISIG | NOFLSH : 0;
    line.c_cc[VINTR] = CHAR_CTRL_C;
    line.c_cc[VQUIT] = line.c_cc[VSUSP] = _POSIX_VDISABLE;
    line.c_cc[VMIN] = 1;
    line.c_cc[VTIME] = 0;
    tcsetattr(STDIN_FILENO, TCSANOW, &line);
}

// As on the chip: raised between two bytecodes, in the thread that the REPL is in.
static void on_ctrl_c(int sig) {
    if (!pthread_equal(pthread_self(), first_thread)) {
        pthread_kill(first_thread, sig);
    } else if (interruptible) {
        mp_sched_keyboard_interrupt();
    }
}

void __real_mp_hal_set_interrupt_char(char c);
void __wrap_mp_hal_set_interrupt_char(char c);

void __wrap_mp_hal_set_interrupt_char(char c) {
    if (!serial) {
        __real_mp_hal_set_interrupt_char(c);
        return;
    }
    interruptible = c == CHAR_CTRL_C;
    set_line(interruptible);
}

// run(callable, ...): call it with Ctrl-C on, return what it raised, or None. What comes behind its end interrupts nothing.
static mp_obj_t sim_run(size_t n_args, const mp_obj_t *args) {
    mp_obj_t raised = mp_const_none;
    nlr_buf_t nlr;
    __wrap_mp_hal_set_interrupt_char(CHAR_CTRL_C);
    if (nlr_push(&nlr) == 0) {
        mp_call_function_n_kw(args[0], n_args - 1, 0, args + 1);
        mp_handle_pending(true);
        nlr_pop();
    } else {
        raised = MP_OBJ_FROM_PTR(nlr.ret_val);
    }
    __wrap_mp_hal_set_interrupt_char(-1);
    mp_handle_pending(false);
    return raised;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR(sim_run_obj, 1, sim_run);

// serial(): standard input, a terminal, is the serial line from now on. It may already be the one that
// controls this process, which the fresh copy after a reset inherits.
static mp_obj_t sim_serial(void) {
    ioctl(STDIN_FILENO, TIOCSCTTY, 0);
    // From the first Ctrl-C on: without a handler it would end the process.
    struct sigaction action = { .sa_handler = on_ctrl_c };
    sigaction(SIGINT, &action, NULL);
    serial = true;
    set_line(false);
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_0(sim_serial_obj, sim_serial);

static const mp_rom_map_elem_t sim_globals_table[] = {
    { MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR__sim) },
    { MP_ROM_QSTR(MP_QSTR_reset), MP_ROM_PTR(&sim_reset_obj) },
    { MP_ROM_QSTR(MP_QSTR_cause), MP_ROM_PTR(&sim_cause_obj) },
    { MP_ROM_QSTR(MP_QSTR_halt), MP_ROM_PTR(&sim_halt_obj) },
    { MP_ROM_QSTR(MP_QSTR_cut), MP_ROM_PTR(&sim_cut_obj) },
    { MP_ROM_QSTR(MP_QSTR_watchdog), MP_ROM_PTR(&sim_watchdog_obj) },
    { MP_ROM_QSTR(MP_QSTR_timer), MP_ROM_PTR(&sim_timer_obj) },
    { MP_ROM_QSTR(MP_QSTR_hold), MP_ROM_PTR(&sim_hold_obj) },
    { MP_ROM_QSTR(MP_QSTR_set_clock), MP_ROM_PTR(&sim_set_clock_obj) },
    { MP_ROM_QSTR(MP_QSTR_serial), MP_ROM_PTR(&sim_serial_obj) },
    { MP_ROM_QSTR(MP_QSTR_run), MP_ROM_PTR(&sim_run_obj) },
};
static MP_DEFINE_CONST_DICT(sim_globals, sim_globals_table);

const mp_obj_module_t sim_module = {
    .base = { &mp_type_module },
    .globals = (mp_obj_dict_t *)&sim_globals,
};
MP_REGISTER_MODULE(MP_QSTR__sim, sim_module);

// Callback and argument of each timer.
MP_REGISTER_ROOT_POINTER(mp_obj_t sim_timers[16]);
