/* Energies and gradients of clusters bound in pairs. LANES rows are evaluated side by side, so that every number is
 * a vector of all of them, whatever the number of atoms; each pair is visited once.
 *
 * Put before this by native_pairs.py: DIM, and PAIR(square, q, u, w), statements that set the energy u and the weight
 * w = u'/r of a pair from its squared distance, with parameters q[0], q[1], ...
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 8
typedef double vec __attribute__((vector_size(8 * LANES)));
typedef int64_t mask __attribute__((vector_size(8 * LANES)));

/* e^x in every lane */
static inline vec exponential(vec x)
{
    vec e;
    for (int lane = 0; lane < LANES; lane++)
        e[lane] = exp(x[lane]);
    return e;
}

static inline vec root(vec x)
{
    vec r;
    for (int lane = 0; lane < LANES; lane++)
        r[lane] = sqrt(x[lane]);
    return r;
}

/* `a` where `where`, 0 elsewhere */
static inline vec only(mask where, vec a)
{
    return (vec)(where & (mask)a);
}

static inline void pair(vec square, const double *q, vec *energy, vec *weight)
{
    vec u, w;
    PAIR(square, q, u, w)
    *energy = u;
    *weight = w;
}

/* The sum over pairs: energies and forces on all atoms, with q moving on by `stride` from pair to pair. */
static vec over_pairs(int64_t n, const double *q, int64_t stride, const vec *p, vec *force)
{
    vec energy = {0};
    for (int64_t i = 0; i < n - 1; i++) {
        vec here[DIM], total[DIM];
        for (int k = 0; k < DIM; k++) {
            here[k] = p[DIM * i + k];
            total[k] = force[DIM * i + k];
        }
        for (int64_t j = i + 1; j < n; j++, q += stride) {
            vec apart[DIM], square = {0}, u, w;
            for (int k = 0; k < DIM; k++) {
                apart[k] = here[k] - p[DIM * j + k];
                square += apart[k] * apart[k];
            }
            pair(square, q, &u, &w);
            energy += u;
            for (int k = 0; k < DIM; k++) {
                vec one = w * apart[k];
                total[k] += one;
                force[DIM * j + k] -= one;
            }
        }
        for (int k = 0; k < DIM; k++)
            force[DIM * i + k] = total[k];
    }
    return energy;
}

/* The container: sum_i max(0, |c_i|^2/R^2 - 1)^3, c_i from the centroid. */
static vec walled(int64_t n, double radius, const vec *p, vec *force)
{
    const vec zero = {0};
    const double inverse = 1 / (radius * radius);
    vec centre[DIM], energy = {0}, pushed[DIM];
    mask outside = {0};
    for (int k = 0; k < DIM; k++) {
        centre[k] = pushed[k] = zero;
        for (int64_t i = 0; i < n; i++)
            centre[k] += p[DIM * i + k];
        centre[k] *= 1.0 / (double)n;
    }
    for (int64_t i = 0; i < n; i++) {
        vec excess = zero - 1.0, c[DIM];
        for (int k = 0; k < DIM; k++) {
            c[k] = p[DIM * i + k] - centre[k];
            excess += inverse * c[k] * c[k];
        }
        mask is_out = excess > zero;
        excess = only(is_out, excess);
        outside |= is_out;
        energy += excess * excess * excess;
        for (int k = 0; k < DIM; k++) {
            vec push = 6 * inverse * excess * excess * only(is_out, c[k]);
            force[DIM * i + k] += push;
            pushed[k] += push;
        }
    }
    int64_t any = 0;
    for (int lane = 0; lane < LANES; lane++)
        any |= outside[lane];
    if (any)
        for (int64_t i = 0; i < n; i++)
            for (int k = 0; k < DIM; k++)
                force[DIM * i + k] -= pushed[k] * (1.0 / (double)n);
    return energy;
}

typedef struct {
    int64_t atoms;
    double radius;   /* of the container; 0 for none */
    const double *q; /* parameters of the first pair */
    int64_t stride;  /* to those of the next */
} cluster;

/* Energies [rows] and gradients [rows, DIM atoms] at x [rows, DIM atoms]. 0 if all went well, 1 if there is no
 * memory. */
int evaluate(int64_t rows, const double *x, double *energy, double *grad, const cluster *of)
{
    const int64_t atoms = of->atoms;
    const int64_t d = DIM * atoms;
    vec *p = aligned_alloc(sizeof(vec), 2 * (size_t)d * sizeof(vec));
    if (p == NULL)
        return 1;
    vec *force = p + d;
    for (int64_t first = 0; first < rows; first += LANES) {
        const int64_t here = rows - first < LANES ? rows - first : LANES;
        for (int lane = 0; lane < LANES; lane++) {
            const double *row = x + d * (first + (lane < here ? lane : here - 1));
            for (int64_t k = 0; k < d; k++)
                p[k][lane] = row[k];
        }
        memset(force, 0, (size_t)d * sizeof(vec));
        vec u = over_pairs(atoms, of->q, of->stride, p, force);
        if (of->radius > 0)
            u += walled(atoms, of->radius, p, force);
        for (int lane = 0; lane < here; lane++) {
            double *row = grad + d * (first + lane);
            energy[first + lane] = u[lane];
            for (int64_t k = 0; k < d; k++)
                row[k] = force[k][lane];
        }
    }
    free(p);
    return 0;
}
