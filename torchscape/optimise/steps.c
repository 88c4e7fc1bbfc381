/* Steps of ShortLBFGS, row by row and in place: what on_host.py does with arrays, to rounding.
 *
 * Rows that have ended stay as they are.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { RUNNING = 0 };

typedef struct {
    double decrease, noise, shrink_min, shrink_max, tol, longest, furthest, eps, tiny, falls;
    int64_t max_rejections, max_evaluations, max_idle;
    int64_t converged, stalled, max_steps, not_finite, unbounded; /* codes of a status */
} limits;

typedef struct {
    double *x, *energy, *grad, *trial, *stretch, *n_short, *mark;
    int64_t *n_evaluations, *n_rejected, *n_refused, *n_idle, *status;
    double *pairs;   /* [rows, most + 1, 2, d] */
    double *inverse; /* [rows, most, most] */
    double *gram;    /* [rows, most, most] */
    double *gamma;   /* [rows] */
    int64_t *count;  /* [rows] */
} state;

typedef int (*evaluation)(int64_t rows, const double *x, double *energy, double *grad, const void *context);

static inline double dot(int64_t d, const double *a, const double *b)
{
    double sum = 0;
    for (int64_t k = 0; k < d; k++)
        sum += a[k] * b[k];
    return sum;
}

static void forget(int64_t b, int64_t d, int64_t most, const state *of)
{
    memset(of->pairs + 2 * d * (most + 1) * b, 0, (size_t)(2 * (most + 1) * d) * sizeof(double));
    memset(of->inverse + most * most * b, 0, (size_t)(most * most) * sizeof(double));
    memset(of->gram + most * most * b, 0, (size_t)(most * most) * sizeof(double));
    for (int64_t k = 0; k < most; k++)
        of->inverse[most * most * b + most * k + k] = 1;
    of->gamma[b] = 1;
    of->count[b] = 0;
}

/* One row: the pair (s, y) takes the place of the oldest if it is kept, and `to` becomes the direction -H g. */
static void direct(int64_t b, int64_t d, int64_t most, int keep, const double *restrict s, const double *restrict y,
                   double sy, double yy, double tiny, const state *of, double *restrict to)
{
    const double *restrict g = of->grad + d * b;
    double *restrict pairs = of->pairs + 2 * d * (most + 1) * b;
    double *restrict inverse = of->inverse + most * most * b, *restrict gram = of->gram + most * most * b;
    double u[most], column[most], sty[most], stg[most], ytg[most], w[most];
    const int64_t at = of->count[b] % most;
    if (keep) {
        memcpy(pairs + 2 * d * at, s, (size_t)d * sizeof(double));
        memcpy(pairs + 2 * d * at + d, y, (size_t)d * sizeof(double));
        of->gamma[b] = sy / (yy > tiny ? yy : tiny);
        of->count[b] += 1;
    }
    const int64_t m = of->count[b] < most ? of->count[b] : most; /* places in use */
    const double scale = of->gamma[b];
    for (int64_t k = 0; k < m; k++) {
        const double *old_s = pairs + 2 * d * k, *old_y = old_s + d;
        double sg = 0, yg = 0, ssy = 0, ysy = 0;
        for (int64_t l = 0; l < d; l++) {
            sg += old_s[l] * g[l];
            yg += old_y[l] * g[l];
            ssy += old_s[l] * y[l];
            ysy += old_y[l] * y[l];
        }
        stg[k] = sg;
        ytg[k] = yg;
        sty[k] = ssy;
        if (keep)
            gram[most * k + at] = gram[most * at + k] = ysy;
    }
    double along = 0;
    if (keep) {
        along = stg[at];
        sty[at] = stg[at] = 0;
        for (int64_t l = 0; l < most; l++)
            inverse[most * at + l] = 0;
    }
    for (int64_t k = 0; k < m; k++) {
        const double *from = inverse + most * k;
        double of_g = 0, of_y = 0;
        for (int64_t l = 0; l < m; l++) {
            of_g += from[l] * stg[l];
            of_y += from[l] * sty[l];
        }
        u[k] = of_g;
        column[k] = -of_y / sy;
    }
    if (keep) {
        column[at] = 1 / sy;
        for (int64_t k = 0; k < m; k++) {
            inverse[most * k + at] = column[k];
            u[k] += column[k] * along;
        }
    }
    for (int64_t l = 0; l < m; l++)
        w[l] = 0;
    for (int64_t k = 0; k < m; k++) {
        const double *from = inverse + most * k;
        const double inner = (dot(m, gram + most * k, u) - ytg[k]) * scale + u[k] / from[k];
        for (int64_t l = 0; l < m; l++)
            w[l] += inner * from[l];
    }
    for (int64_t k = 0; k < d; k++)
        to[k] = -scale * g[k];
    for (int64_t l = 0; l < m; l++) {
        const double of_y = scale * u[l], of_s = w[l], *old_s = pairs + 2 * d * l, *old_y = old_s + d;
        for (int64_t k = 0; k < d; k++)
            to[k] += of_y * old_y[k] - of_s * old_s[k];
    }
}

/* How much of a refused step is tried next: the minimiser of the cubic through both ends. */
static double shrunk(const limits *by, double energy, double slope, double tried, double new_slope)
{
    const double a = slope + new_slope - 3 * (tried - energy);
    const double b = a * a - slope * new_slope;
    const double r = sqrt(b > 0 ? b : 0);
    const double factor = 1 - (new_slope + r - a) / (new_slope - slope + 2 * r);
    if (!(fabs(factor + tried) < INFINITY) || factor < by->shrink_min)
        return by->shrink_min;
    return factor > by->shrink_max ? by->shrink_max : factor;
}

/* How the row stands: whether it has got on, and whether it has ended. */
static void judge(int64_t b, int64_t d, const limits *by, const state *of, int broken)
{
    const double *x = of->x + d * b, *g = of->grad + d * b, energy = of->energy[b];
    const double rms = sqrt(dot(d, g, g) / (double)d);
    const double level = by->noise * (fabs(energy) > 1 ? fabs(energy) : 1);
    double *mark = of->mark + 2 * b;
    const int got_on = energy < mark[0] - level || rms < 0.9 * mark[1] || energy == INFINITY;
    if (got_on) {
        mark[0] = energy;
        mark[1] = rms < mark[1] ? rms : mark[1];
    }
    of->n_idle[b] = got_on ? 0 : of->n_idle[b] + 1;
    double far = 0;
    for (int64_t k = 0; k < d; k++)
        far = fabs(x[k]) > far ? fabs(x[k]) : far;
    int64_t status = RUNNING;
    if (of->n_evaluations[b] >= by->max_evaluations)
        status = by->max_steps;
    if (of->n_rejected[b] >= 2 * by->max_rejections || of->n_idle[b] >= by->max_idle)
        status = by->stalled;
    if (far > by->furthest)
        status = by->unbounded;
    if (rms <= by->tol)
        status = by->converged;
    if (broken)
        status = by->not_finite;
    of->status[b] = status;
    if (status != RUNNING)
        memcpy(of->trial + d * b, x, (size_t)d * sizeof(double));
}

/* One row, from its energy and gradient at its trial point; `room` has place for 2 d numbers. */
static void step(int64_t b, int64_t d, int64_t most, const limits *by, const state *of, double tried,
                 const double *restrict grad, double *restrict room)
{
    double *restrict s = room, *restrict y = room + d;
    double *restrict x = of->x + d * b, *restrict g = of->grad + d * b, *restrict trial = of->trial + d * b;
    const double old = of->energy[b];
    double slope = 0, new_slope = 0, sum = 0, yy = 0;
    for (int64_t k = 0; k < d; k++) {
        s[k] = trial[k] - x[k];
        y[k] = grad[k] - g[k];
        slope += g[k] * s[k];
        new_slope += grad[k] * s[k];
        sum += grad[k];
        yy += y[k] * y[k];
    }
    const double size = fabs(old) > 1 ? fabs(old) : 1;
    const int good = tried <= old + by->decrease * slope ||
                     (tried <= old + by->noise * size && new_slope <= (2 * by->decrease - 1) * slope);
    const int first = old == INFINITY, finite = fabs(tried + sum) < INFINITY;
    const int accepted = (good || first) && finite, moved = accepted && !first;
    of->n_evaluations[b] += 1;
    of->n_rejected[b] = accepted ? 0 : of->n_rejected[b] + 1;
    of->n_refused[b] += !accepted;
    if (accepted) {
        memcpy(x, trial, (size_t)d * sizeof(double));
        memcpy(g, grad, (size_t)d * sizeof(double));
        of->energy[b] = tried;
    }
    const int reset = of->n_rejected[b] == by->max_rejections;
    if (reset)
        forget(b, d, most, of);
    if (accepted || reset) {
        const int is_short = moved && new_slope < 0.9 * slope;
        const double stretch = is_short ? 2 * of->stretch[b] : 1, sy = new_slope - slope;
        double n_short = of->n_short[b] + 1;
        if (!is_short)
            n_short = n_short > 3 ? n_short - 3 : 0;
        direct(b, d, most, moved && sy > by->eps * yy, s, y, sy, yy, by->tiny, of, trial);
        if (dot(d, trial, g) >= 0)
            for (int64_t k = 0; k < d; k++)
                trial[k] = -g[k];
        const double over = n_short - by->falls, length = sqrt(dot(d, trial, trial));
        const double most_far = over > 0 ? by->longest * exp2(over) : by->longest;
        const double cap = most_far / (length > by->tiny ? length : by->tiny);
        const double scale = stretch < cap ? stretch : cap;
        for (int64_t k = 0; k < d; k++)
            trial[k] = x[k] + scale * trial[k];
        if (accepted) {
            of->stretch[b] = stretch;
            of->n_short[b] = n_short;
        }
    } else {
        const double factor = shrunk(by, old, slope, tried, new_slope);
        for (int64_t k = 0; k < d; k++)
            trial[k] = x[k] + factor * s[k];
    }
    judge(b, d, by, of, first && !finite);
}

/* `n` steps of all rows that run, or fewer until none does; energies are in units of `unit` in the state. Ended rows
 * cost nothing. 1 if there is no memory; then the rows are as they were after some step. */
int run(int64_t rows, int64_t d, int64_t most, const limits *by, const state *of, int64_t n, double unit,
        evaluation evaluate, const void *context)
{
    const size_t size = (size_t)d * sizeof(double);
    double *room = malloc((2 * (size_t)rows + 2) * size + (size_t)rows * (sizeof(double) + sizeof(int64_t)));
    if (room == NULL)
        return 1;
    double *trials = room + 2 * d, *grads = trials + rows * d, *energies = grads + rows * d;
    int64_t *which = (int64_t *)(energies + rows);
    int failed = 0;
    for (int64_t number = 0; number < n && !failed; number++) {
        int64_t running = 0;
        for (int64_t b = 0; b < rows; b++)
            if (of->status[b] == RUNNING) {
                memcpy(trials + d * running, of->trial + d * b, size);
                which[running++] = b;
            }
        if (running == 0)
            break;
        failed = evaluate(running, trials, energies, grads, context);
        if (failed)
            break;
        if (unit != 1) {
            for (int64_t k = 0; k < running; k++)
                energies[k] /= unit;
            for (int64_t k = 0; k < running * d; k++)
                grads[k] /= unit;
        }
        for (int64_t k = 0; k < running; k++)
            step(which[k], d, most, by, of, energies[k], grads + d * k, room);
    }
    free(room);
    return failed;
}
