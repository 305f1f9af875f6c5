/*@NOTICE@*/
/* A spiking network in integers: no floating point, no allocation, nothing beyond stdint and string.
 *
 * The work depends on the spikes. For every position of a layer, each non-zero input under the kernel adds its row of
 * weights to one sum for each channel; then the neurons of the position take their currents. Between time steps only
 * the potentials are kept, packed in the bits that their levels need: nothing where there is a single step. Spikes are
 * kept only until the layers that read them have run.
 *
 * reference.py beside this file explains the arithmetic; every number here equals the one there. */

#include "model.h"

#include <string.h>

/* With SPQ_FAST the compiler copies the code for every layer, with the layer's sizes as constants: about twice as fast
 * and several times as large. */
#if defined(SPQ_FAST) && defined(__GNUC__)
#define SPQ_INLINE inline __attribute__((always_inline))
#else
#define SPQ_INLINE
#endif

/* How the values of a map lie in memory, [row][column][channel]. */
enum {
    SPQ_INPUT,    /* the frame's counts in bytes; larger ones are read as `largest` */
    SPQ_BITS,     /* spikes; the channels of a pixel fill whole bytes, lowest bit first */
    SPQ_BITS_SUM, /* the same, read as sums over 2x2 pixels */
    SPQ_BITS_MAX, /* the same, read as the largest of 2x2 pixels */
    SPQ_BYTES,    /* numbers of one byte */
    SPQ_WORDS     /* numbers of four bytes */
};

typedef struct {
    const uint8_t *bytes;
    const uint32_t *words;
    uint16_t height, width, channels; /* after any pooling */
    uint16_t stored_width;            /* pixels of a row in memory */
    uint8_t kind, largest;
} spq_map;

/* A window that moves over a map: its size, its stride, and how far it begins above and before the map. */
typedef struct {
    uint8_t rows, columns, down, right, above, before;
} spq_window;

/*@POOLS_CURRENTS@*/
/* A window over the outputs of a convolution, and how many rows and columns of them there are. */
typedef struct {
    spq_window window;
    uint16_t height, width;
} spq_outputs;

/*@END@*/
typedef struct {
    spq_map in;
    const uint8_t *weights; /* rows of packed codes, [kernel row][kernel column][input channel of a group] */
    const int16_t *slope;
    const int32_t *offset;
    uint16_t channels, groups;
    spq_window kernel;
    uint8_t bits;
    uint8_t up; /* shift from the layer's fixed point to the potential's */
    /*@SUMS_UP@*/
    const spq_outputs *summed; /* outputs that are added up, or null */
    /*@END@*/
} spq_sums;

typedef struct {
    uint8_t *spikes;
#if SPQ_TIME_STEPS > 1
    uint8_t *membrane; /* codes of `bits` bits, laid end to end */
    int16_t lowest, highest, cut; /* `cut`: neurons whose code is lower take no current */
    int16_t leak;                 /* a code leaks to the potential `code * leak << leak_up` */
    uint8_t bits, leak_up, round_down;
    /*@SUBTRACTS@*/
    int32_t subtracts; /* what a spike takes from its potential, << subtracts_up; 0: all of it */
    uint8_t subtracts_up;
    /*@END@*/
#endif
    /*@AT_THRESHOLD@*/
    uint8_t at_threshold; /* 1: spikes at the threshold too */
    /*@END@*/
    uint8_t gain, threshold_up;
} spq_neurons;

typedef struct {
    spq_sums sums;
    spq_neurons neurons;
    uint16_t height, width;
    const int8_t *gate; /* [input channel][output channel], or null */
    const uint8_t *gate_at_rest; /* one bit for each channel: is it open when no input spikes? */
    const spq_sums *shortcut; /* the residual current comes from a convolution, */
    const spq_map *identity;  /* or from the values of a map, or there is none */
    uint8_t identity_up;
    uint16_t number; /* counts the layers with neurons */
    /*@TAKES_LARGEST@*/
    const spq_outputs *largest; /* outputs of whose currents the largest is taken, or null */
    /*@END@*/
} spq_layer;

typedef struct {
    spq_map q, k, v;
    spq_neurons neurons;
    uint16_t heads, number;
    uint8_t up;
} spq_attention;

/*@POOL@*/
typedef struct {
    spq_map in;
    spq_window window;
    uint8_t *to;
    uint16_t height, width;
    uint8_t is_bits, takes_largest; /* what is bits has no other number than 1 */
} spq_pool;

/*@END@*/
/*@READOUT@*/
typedef struct {
    spq_map in;
    const uint8_t *weights; /* rows of packed codes, [class], over [row][column][channel] */
    const int32_t *offset;
    uint16_t classes;
    uint8_t bits;
} spq_readout;
/*@END@*/
/*@COUNT@*/
typedef struct {
    spq_map in;
    uint16_t votes; /* channels of a class */
} spq_count;
/*@END@*/

/*@TABLES@*/

/* Operations are counted where an input that is not zero reaches an output that is counted: that of a neuron that takes
 * it, and every output of a shortcut. */
#ifdef SPQ_COUNT
uint64_t spq_synaptic_ops;
static uint8_t is_counted[SPQ_MOST_CHANNELS];
static uint32_t outputs_counted(uint32_t first, uint32_t number)
{
    uint32_t o, found = 0;
    for (o = first; o < first + number; ++o)
        found += is_counted[o];
    return found;
}
#define SPQ_COUNTS 1
#define SPQ_COUNT_OPS(number) (spq_synaptic_ops += (uint64_t)(number))
#define SPQ_COUNT_OUTPUT(o, counted) (is_counted[o] = (uint8_t)(counted))
#define SPQ_COUNT_GROUP(found, first, number) SPQ_COUNT_OPS((uint64_t)(found) * outputs_counted(first, number))
#else
#define SPQ_COUNTS 0
#define SPQ_COUNT_OPS(number) ((void)0)
#define SPQ_COUNT_OUTPUT(o, counted) ((void)0)
#define SPQ_COUNT_GROUP(found, first, number) ((void)0)
#endif
#ifdef SPQ_TRACE
void (*spq_trace)(int layer, const uint8_t *spikes, uint32_t bytes);
#endif

/* Working memory of the layers, which run one at a time. */
static uint16_t event_channel[SPQ_MOST_INPUTS];
static uint16_t event_value[SPQ_MOST_INPUTS];
static spq_sum sums[SPQ_MOST_CHANNELS];
/* Sums of few codes in bytes, until they are added to the sums above. Here and for the codes of membranes a compiler
 * sees that words are taken, but not that they are not where there are fewer channels: it would warn. */
static uint8_t lanes[SPQ_MOST_CHANNELS < 8 ? 8 : SPQ_MOST_CHANNELS];
static uint32_t lanes_left; /* how many more inputs of value 1 fit into the lanes */
#if SPQ_TIME_STEPS > 1
static int16_t codes[SPQ_MOST_CHANNELS < 8 ? 8 : SPQ_MOST_CHANNELS];
#endif
static uint8_t is_open[SPQ_MOST_CHANNELS];
static uint8_t fired[SPQ_MOST_CHANNELS];

/* ---------------------------------------------------------------- maps */

static SPQ_INLINE uint32_t bytes_of(uint32_t channels) { return (channels + 7u) / 8u; }

static SPQ_INLINE uint32_t lowest_bit(uint32_t set)
{
#ifdef __GNUC__
    return (uint32_t)__builtin_ctzl(set);
#else
    uint32_t bit = 0;
    for (; !(set & 1u); set >>= 1)
        ++bit;
    return bit;
#endif
}

/* Writes the non-zero values of a pixel into the two arrays above; returns how many there are. */
static SPQ_INLINE uint32_t events_at(const spq_map *map, uint32_t row, uint32_t column)
{
    uint32_t count = 0, channel, at;
    if (map->kind == SPQ_INPUT) {
        const uint8_t *pixel = input + (row * map->stored_width + column) * map->channels;
        for (channel = 0; channel < map->channels; ++channel)
            if (pixel[channel]) {
                event_channel[count] = (uint16_t)channel;
                event_value[count++] = pixel[channel] < map->largest ? pixel[channel] : map->largest;
            }
    } else if (map->kind == SPQ_WORDS) {
        const uint32_t *pixel = map->words + (row * map->stored_width + column) * map->channels;
        for (channel = 0; channel < map->channels; ++channel)
            if (pixel[channel]) {
                event_channel[count] = (uint16_t)channel;
                event_value[count++] = (uint16_t)pixel[channel];
            }
    } else if (map->kind == SPQ_BYTES) {
        const uint8_t *pixel = map->bytes + (row * map->stored_width + column) * map->channels;
        for (channel = 0; channel < map->channels; ++channel)
            if (pixel[channel]) {
                event_channel[count] = (uint16_t)channel;
                event_value[count++] = pixel[channel];
            }
    } else if (map->kind == SPQ_BITS) {
        const uint32_t size = bytes_of(map->channels);
        const uint8_t *pixel = map->bytes + (row * map->stored_width + column) * size;
        for (at = 0; at < size; ++at) {
            uint32_t any = pixel[at];
            for (; any; any &= any - 1u) {
                event_channel[count] = (uint16_t)(at * 8u + lowest_bit(any));
                event_value[count++] = 1;
            }
        }
    } else {
        const uint32_t size = bytes_of(map->channels);
        const uint8_t *upper = map->bytes + (2u * row * map->stored_width + 2u * column) * size;
        const uint8_t *lower = upper + map->stored_width * size;
        for (at = 0; at < size; ++at) {
            const uint32_t a = upper[at], b = upper[size + at], c = lower[at], d = lower[size + at];
            uint32_t any = a | b | c | d;
            for (; any; any &= any - 1u) {
                const uint32_t bit = lowest_bit(any);
                const uint32_t sum = (a >> bit & 1u) + (b >> bit & 1u) + (c >> bit & 1u) + (d >> bit & 1u);
                event_channel[count] = (uint16_t)(at * 8u + bit);
                event_value[count++] = (uint16_t)(map->kind == SPQ_BITS_MAX ? 1u : sum);
            }
        }
    }
    return count;
}

/* Adds a pixel's values, each times 2^up, to the potential of their channel. */
static SPQ_INLINE void add_pixel(spq_potential *to, const spq_map *map, uint32_t row, uint32_t column, uint32_t up)
{
    const uint32_t count = events_at(map, row, column);
    uint32_t i;
    for (i = 0; i < count; ++i)
        to[event_channel[i]] += (spq_potential)event_value[i] * ((spq_potential)1 << up);
}

/* ---------------------------------------------------------------- weights */

static SPQ_INLINE uint32_t row_bytes(uint32_t columns, uint32_t bits)
{
    return bits == 3 ? (columns * 2u + 7u) / 8u + (columns + 7u) / 8u : (columns * bits + 7u) / 8u;
}

static SPQ_INLINE uint32_t field_at(const uint8_t *row, uint32_t columns, uint32_t bits, uint32_t column)
{
    const uint32_t slots = 8u / bits, q = (columns + slots - 1u) / slots;
    return row[column % q] >> (column / q * bits) & ((1u << bits) - 1u);
}

static SPQ_INLINE uint32_t code_at(const uint8_t *row, uint32_t columns, uint32_t bits, uint32_t column)
{
    if (bits == 3)
        return field_at(row, columns, 2, column) | field_at(row + (columns * 2u + 7u) / 8u, columns, 1, column) << 2;
    return field_at(row, columns, bits, column);
}

/* Returns the largest code of so many bits. */
static SPQ_INLINE uint32_t largest_code(uint32_t bits) { return bits == 1 ? 1u : (1u << bits) - 2u; }

static SPQ_INLINE void empty_lanes(uint32_t columns, uint32_t bits)
{
    uint32_t c;
    if (bits == 8)
        return;
    for (c = 0; c < columns; ++c)
        sums[c] = (spq_sum)(sums[c] + lanes[c]);
    memset(lanes, 0, columns);
    lanes_left = 255u / largest_code(bits);
}

/* Adds `value` times the codes of one slot of a word's bytes to as many lanes: no lane overflows into the next. */
#define SPQ_ADD_WORD(type, ones, lane, word, shift, mask, up, value)                                   \
    do {                                                                                               \
        type held;                                                                                     \
        memcpy(&held, lane, sizeof held);                                                              \
        held = (type)(held + ((((word) >> (shift)) & (type)((mask) * (ones))) << (up)) * (type)(value)); \
        memcpy(lane, &held, sizeof held);                                                              \
    } while (0)

/* Adds `value` times one field of a row's codes to the lanes, a word of them at once. */
static SPQ_INLINE void add_field(const uint8_t *row, uint32_t columns, uint32_t bits, uint32_t up, uint32_t value)
{
    const uint32_t slots = 8u / bits, q = (columns + slots - 1u) / slots, mask = (1u << bits) - 1u;
    uint32_t slot, j = 0;
    if (slots * q == columns) {
#ifdef SPQ_FAST
        for (; j + 8u <= q; j += 8u) {
            uint64_t word;
            memcpy(&word, row + j, sizeof word);
            for (slot = 0; slot < slots; ++slot)
                SPQ_ADD_WORD(uint64_t, 0x0101010101010101u, lanes + slot * q + j, word, slot * bits, mask, up, value);
        }
#endif
        for (; j + 4u <= q; j += 4u) {
            uint32_t word;
            memcpy(&word, row + j, sizeof word);
            for (slot = 0; slot < slots; ++slot)
                SPQ_ADD_WORD(uint32_t, 0x01010101u, lanes + slot * q + j, word, slot * bits, mask, up, value);
        }
    }
    for (; j < q; ++j)
        for (slot = 0; slot < slots && slot * q + j < columns; ++slot) {
            uint8_t *lane = lanes + slot * q + j;
            *lane = (uint8_t)(*lane + ((row[j] >> (slot * bits) & mask) << up) * value);
        }
}

static SPQ_INLINE void add_row(const uint8_t *row, uint32_t columns, uint32_t bits, uint32_t value)
{
    uint32_t c;
    if (bits == 8) {
        for (c = 0; c < columns; ++c)
            sums[c] = (spq_sum)(sums[c] + row[c] * value);
        return;
    }
    if (value > lanes_left) {
        empty_lanes(columns, bits);
        if (value > lanes_left) { /* it does not fit into an empty lane either */
            for (c = 0; c < columns; ++c)
                sums[c] = (spq_sum)(sums[c] + code_at(row, columns, bits, c) * value);
            return;
        }
    }
    lanes_left -= value;
    if (bits == 3) {
        add_field(row, columns, 2, 0, value);
        add_field(row + (columns * 2u + 7u) / 8u, columns, 1, 2, value);
    } else {
        add_field(row, columns, bits, 0, value);
    }
}

/* Returns what is added to a weight to get its code; a code of one bit is the sign of the weight. */
static SPQ_INLINE int32_t code_offset(uint32_t bits) { return bits <= 2 ? 1 : ((int32_t)1 << (bits - 1u)) - 1; }

/* ---------------------------------------------------------------- sums and currents */

/* Adds the row of each bit that is set; bit 0 has the first of the `rows`. Returns how many bits were set. */
static SPQ_INLINE uint32_t add_rows(uint32_t set, const uint8_t *rows, uint32_t columns, uint32_t bits)
{
    uint32_t found = 0;
    for (; set; set &= set - 1u, ++found)
        add_row(rows + lowest_bit(set) * row_bytes(columns, bits), columns, bits, 1);
    return found;
}

/* The inputs of one output position: how many are not zero, and the sum of their values. */
typedef struct {
    uint32_t found;
    uint32_t total;
} spq_gathered;

/* Gathers spikes whose channels fill whole bytes: the pixels under one row of the kernel are one string of bits, and
 * the rows of their weights follow each other in the same order. */
static SPQ_INLINE void gather_bits(const spq_sums *s, uint32_t row, uint32_t first, uint32_t pixels,
                                   const uint8_t *rows, spq_gathered *g)
{
    const uint32_t size = row_bytes(s->channels, s->bits), bytes = pixels * (s->in.channels / 8u);
    const uint8_t *at = s->in.bytes + (row * s->in.stored_width + first) * (s->in.channels / 8u);
    uint32_t begin, found;
    for (begin = 0; begin < bytes; begin += 4) {
        uint32_t set = at[begin];
        if (begin + 1u < bytes)
            set |= (uint32_t)at[begin + 1u] << 8;
        if (begin + 2u < bytes)
            set |= (uint32_t)at[begin + 2u] << 16;
        if (begin + 3u < bytes)
            set |= (uint32_t)at[begin + 3u] << 24;
        found = add_rows(set, rows + (size_t)begin * 8u * size, s->channels, s->bits);
        g->found += found;
        g->total += found;
    }
}

/* Gathers the values of any other map, and of layers with groups, pixel by pixel. */
static SPQ_INLINE void gather_events(const spq_sums *s, uint32_t row, uint32_t first, uint32_t pixels,
                                     const uint8_t *rows, uint32_t group, spq_gathered *g)
{
    const uint32_t inputs = s->in.channels / s->groups, outputs = s->channels / s->groups;
    const uint32_t size = row_bytes(s->channels, s->bits);
    uint32_t p, e, o;
    for (p = 0; p < pixels; ++p, rows += (size_t)inputs * size) {
        const uint32_t count = events_at(&s->in, row, first + p);
        for (e = 0; e < count; ++e) {
            const uint32_t channel = event_channel[e], value = event_value[e];
            if (s->groups == 1)
                add_row(rows + channel * size, s->channels, s->bits, value);
            else if (channel / inputs == group)
                for (o = group * outputs; o < (group + 1u) * outputs; ++o)
                    sums[o] = (spq_sum)(sums[o] + value * code_at(rows + channel % inputs * size, s->channels, s->bits,
                                                                  o));
            else
                continue;
            g->total += value;
            ++g->found;
        }
    }
}

/* Sums codes over the inputs under the kernel of one output, for the outputs of one group. */
static SPQ_INLINE void gather(const spq_sums *s, uint32_t row, uint32_t column, uint32_t group, spq_gathered *g)
{
    const spq_window *k = &s->kernel;
    const uint32_t inputs = s->in.channels / s->groups, size = row_bytes(s->channels, s->bits);
    const uint32_t top = row * k->down, left = column * k->right, end = (uint32_t)s->in.width + k->before;
    const uint32_t from = left < k->before ? k->before - left : 0u; /* columns of the kernel that lie on the map */
    const uint32_t to = left + k->columns > end ? end - left : k->columns;
    uint32_t i;
    if (left >= end || from >= to)
        return;
    for (i = 0; i < k->rows; ++i) {
        const uint8_t *rows = s->weights + (size_t)(i * k->columns + from) * inputs * size;
        if (top + i < k->above || top + i - k->above >= s->in.height)
            continue;
        if (s->groups == 1 && s->in.kind == SPQ_BITS && s->in.channels % 8u == 0)
            gather_bits(s, top + i - k->above, left + from - k->before, to - from, rows, g);
        else
            gather_events(s, top + i - k->above, left + from - k->before, to - from, rows, group, g);
    }
}

/*@SUMS_UP@*/
/* Does the same for all outputs under a window. */
static SPQ_INLINE void gather_window(const spq_sums *s, uint32_t row, uint32_t column, uint32_t group, spq_gathered *g)
{
    const spq_window *w = &s->summed->window;
    uint32_t i, j;
    for (i = 0; i < w->rows; ++i)
        for (j = 0; j < w->columns; ++j) {
            /* Above and before the map the numbers wrap around: they are larger than any map's. */
            const uint32_t r = row * w->down + i - w->above, c = column * w->right + j - w->before;
            if (r < s->summed->height && c < s->summed->width)
                gather(s, r, c, group, g);
        }
}

/*@END@*/
/* Adds the current of one position, a * A + d in the potential's fixed point, to one potential a channel. */
static SPQ_INLINE void add_current(const spq_sums *s, uint32_t row, uint32_t column, spq_potential *to)
{
    const uint32_t outputs = s->channels / s->groups;
    const int32_t offset = code_offset(s->bits), times = s->bits == 1 ? 2 : 1;
    const spq_potential unit = (spq_potential)1 << s->up;
    uint32_t group, o;
    memset(sums, 0, sizeof sums[0] * s->channels);
    empty_lanes(s->channels, s->bits);
    for (group = 0; group < s->groups; ++group) {
        spq_gathered g = {0, 0};
        int32_t zero;
        /*@SUMS_UP@*/
        if (s->summed)
            gather_window(s, row, column, group, &g);
        else
            gather(s, row, column, group, &g);
        /*@ELSE@*/
        gather(s, row, column, group, &g);
        /*@END@*/
        zero = offset * (int32_t)g.total;
        SPQ_COUNT_GROUP(g.found, group * outputs, outputs);
        if (s->groups == 1)
            empty_lanes(s->channels, s->bits);
        for (o = group * outputs; o < (group + 1u) * outputs; ++o)
            to[o] += (s->slope[o] * (spq_potential)(times * (int32_t)sums[o] - zero) + s->offset[o]) * unit;
    }
}

/*@TAKES_LARGEST@*/
/* Gives each channel the largest of its currents under a window. */
static SPQ_INLINE void largest_current(const spq_sums *s, const spq_outputs *outputs, uint32_t row, uint32_t column,
                                       spq_potential *to)
{
    static spq_potential one[SPQ_MOST_CHANNELS];
    const spq_window *w = &outputs->window;
    uint32_t i, j, o, any = 0;
    for (i = 0; i < w->rows; ++i)
        for (j = 0; j < w->columns; ++j) {
            const uint32_t r = row * w->down + i - w->above, c = column * w->right + j - w->before;
            if (r >= outputs->height || c >= outputs->width)
                continue;
            memset(one, 0, sizeof one[0] * s->channels);
            add_current(s, r, c, one);
            for (o = 0; o < s->channels; ++o)
                to[o] = any && to[o] > one[o] ? to[o] : one[o];
            any = 1;
        }
}

/*@END@*/
/* ---------------------------------------------------------------- neurons */

#if SPQ_TIME_STEPS > 1
/* Tells how a position's membranes are packed. Codes whose bits divide a byte, and which fill whole bytes, are packed
 * like rows of weights: byte j of q holds the channels j, j + q, j + 2q and so on. All others are laid end to end. */
static SPQ_INLINE uint32_t fills_bytes(uint32_t count, uint32_t bits)
{
    return 8u % bits == 0 && count * bits % 8u == 0;
}

static SPQ_INLINE void read_codes(const spq_neurons *n, uint32_t first, uint32_t count)
{
    const uint32_t mask = (1u << n->bits) - 1u;
    uint32_t c;
    if (fills_bytes(count, n->bits)) {
        const uint32_t q = count * n->bits / 8u;
        const uint8_t *at = n->membrane + first / count * q;
        uint32_t slot;
        for (slot = 0; slot < 8u / n->bits; ++slot)
            for (c = 0; c < q; ++c)
                codes[slot * q + c] = (int16_t)((int)(at[c] >> (slot * n->bits) & mask) + n->lowest);
        return;
    }
    for (c = 0; c < count; ++c) {
        const uint32_t bit = (uint32_t)(first + c) * n->bits;
        const uint8_t *at = n->membrane + (bit >> 3);
        uint32_t window = at[0];
        if ((bit & 7u) + n->bits > 8u)
            window |= (uint32_t)at[1] << 8;
        codes[c] = (int16_t)((int)(window >> (bit & 7u) & mask) + n->lowest);
    }
}

static SPQ_INLINE void write_codes(const spq_neurons *n, uint32_t first, uint32_t count)
{
    const uint32_t mask = (1u << n->bits) - 1u;
    uint32_t c;
    if (fills_bytes(count, n->bits)) {
        const uint32_t q = count * n->bits / 8u;
        uint8_t *at = n->membrane + first / count * q;
        uint32_t slot;
        for (c = 0; c < q; ++c)
            at[c] = (uint8_t)(codes[c] - n->lowest);
        for (slot = 1; slot < 8u / n->bits; ++slot)
            for (c = 0; c < q; ++c)
                at[c] = (uint8_t)(at[c] | (codes[slot * q + c] - n->lowest) << (slot * n->bits));
        return;
    }
    for (c = 0; c < count; ++c) {
        const uint32_t bit = (uint32_t)(first + c) * n->bits;
        uint8_t *at = n->membrane + (bit >> 3);
        const uint32_t shift = bit & 7u, code = (uint32_t)(codes[c] - n->lowest);
        at[0] = (uint8_t)((at[0] & ~(mask << shift)) | code << shift);
        if (shift + n->bits > 8u)
            at[1] = (uint8_t)((at[1] & ~(mask >> (8u - shift))) | code >> (8u - shift));
    }
}

/*@REST@*/
/* Writes the codes of neurons at rest where the bits of a code do not divide a byte. */
static void rest(uint8_t *membrane, uint32_t count, uint32_t bits, uint32_t code)
{
    uint32_t c, b;
    for (c = 0; c < count; ++c)
        for (b = 0; b < bits; ++b)
            if (code >> b & 1u) {
                const uint32_t bit = (uint32_t)c * bits + b;
                membrane[bit >> 3] = (uint8_t)(membrane[bit >> 3] | 1u << (bit & 7u));
            }
}
/*@END@*/
/* Returns floor(value / 2^shift): the compiler decides what >> does with negative numbers. */
static SPQ_INLINE spq_potential floor_shift(spq_potential value, uint32_t shift)
{
#ifdef __GNUC__
    return value >> shift; /* these compilers keep the sign */
#else
    return value >= 0 ? value >> shift : ~(~value >> shift);
#endif
}

static SPQ_INLINE uint32_t takes_current(const spq_neurons *n, uint32_t c) { return codes[c] >= n->cut; }
#else /* Nothing is stored for a step that does not come, and no neuron is skipped in the first one. */
#define read_codes(neurons, first, count) ((void)0)
#define write_codes(neurons, first, count) ((void)0)
#define takes_current(neurons, c) 1u
#endif

/* Runs one time step of `count` neurons: it reads their codes and currents and writes their codes and spikes. */
static SPQ_INLINE void fire(const spq_neurons *n, const spq_potential *currents, uint32_t count, uint8_t *spikes)
{
    spq_potential one = (spq_potential)1 << n->threshold_up;
    uint32_t c, bit;
#if SPQ_TIME_STEPS > 1
    const spq_potential leaked = (spq_potential)n->leak * ((spq_potential)1 << n->leak_up);
    const spq_potential half = (spq_potential)1 << (n->round_down - 1u);
    /*@SUBTRACTS@*/
    const spq_potential subtracted = (spq_potential)n->subtracts * ((spq_potential)1 << n->subtracts_up);
    /*@END@*/
#endif
    /*@AT_THRESHOLD@*/
    one -= n->at_threshold; /* whole numbers: what exceeds one less is at the threshold or above */
    /*@END@*/
#if SPQ_TIME_STEPS > 1
    for (c = 0; c < count; ++c) {
        const spq_potential taken = takes_current(n, c) ? currents[c] * (spq_potential)n->gain : 0;
        const spq_potential u = codes[c] * leaked + taken;
        spq_potential kept = u > one ? 0 : u, nearest;
        /*@SUBTRACTS@*/
        kept = u > one && subtracted ? u - subtracted : kept;
        /*@END@*/
        nearest = floor_shift(kept + half - (kept > 0), n->round_down); /* ties toward zero */
        nearest = nearest < n->lowest ? n->lowest : nearest;
        nearest = nearest > n->highest ? n->highest : nearest;
        fired[c] = (uint8_t)(u > one);
        codes[c] = (int16_t)nearest;
    }
#else
    for (c = 0; c < count; ++c)
        fired[c] = (uint8_t)(currents[c] * (spq_potential)n->gain > one);
#endif
    for (c = 0; c < count; c += 8) {
        uint32_t byte = 0;
        for (bit = 0; bit < 8u && c + bit < count; ++bit)
            byte |= (uint32_t)fired[c + bit] << bit;
        spikes[c >> 3] = (uint8_t)byte;
    }
}

static spq_potential currents[SPQ_MOST_CHANNELS];

#ifdef SPQ_TRACE
#define SPQ_TRACE_LAYER(number, spikes, bytes) \
    do {                                       \
        if (spq_trace)                         \
            spq_trace(number, spikes, bytes);  \
    } while (0)
#else
#define SPQ_TRACE_LAYER(number, spikes, bytes) ((void)0)
#endif

/* ---------------------------------------------------------------- layers */

/*@GATES@*/
/* Decides which output channels the gate opens in this time step. */
static SPQ_INLINE void predict(const spq_layer *l)
{
    static uint32_t counts[SPQ_MOST_INPUTS];
    static int32_t predicted[SPQ_MOST_CHANNELS];
    const spq_map *in = &l->sums.in;
    const uint32_t outputs = l->sums.channels;
    uint32_t row, column, i, o, any = 0;
    memset(counts, 0, sizeof counts[0] * in->channels);
    memset(predicted, 0, sizeof predicted[0] * outputs);
    for (row = 0; row < in->height; ++row)
        for (column = 0; column < in->width; ++column) {
            const uint32_t found = events_at(in, row, column);
            for (i = 0; i < found; ++i)
                counts[event_channel[i]] += event_value[i];
        }
    for (i = 0; i < in->channels; ++i)
        if (counts[i]) {
            any = 1;
            for (o = 0; o < outputs; ++o)
                predicted[o] += l->gate[i * outputs + o] * (int32_t)counts[i];
            SPQ_COUNT_OPS(outputs);
        }
    for (o = 0; o < outputs; ++o)
        is_open[o] = (uint8_t)(any ? predicted[o] > 0 : field_at(l->gate_at_rest, outputs, 1, o));
}
/*@END@*/
static SPQ_INLINE void convolution(const spq_layer *l)
{
    const uint32_t channels = l->sums.channels, size = bytes_of(channels);
    uint32_t row, column, c, at = 0;
    memset(is_open, 1, channels);
    /*@GATES@*/
    if (l->gate)
        predict(l);
    /*@END@*/
    for (row = 0; row < l->height; ++row)
        for (column = 0; column < l->width; ++column, ++at) {
            uint32_t computed = 0, taking = 0;
            read_codes(&l->neurons, at * channels, channels);
            for (c = 0; c < channels; ++c) {
                const uint32_t takes = takes_current(&l->neurons, c);
                SPQ_COUNT_OUTPUT(c, takes & is_open[c]);
                computed += takes & is_open[c];
                taking += takes;
            }
            memset(currents, 0, sizeof currents[0] * channels);
            if (computed) {
                /*@TAKES_LARGEST@*/
                if (l->largest)
                    largest_current(&l->sums, l->largest, row, column, currents);
                else
                    add_current(&l->sums, row, column, currents);
                /*@ELSE@*/
                add_current(&l->sums, row, column, currents);
                /*@END@*/
                for (c = 0; c < channels; ++c)
                    if (!is_open[c])
                        currents[c] = 0;
            }
            /* Where no neuron takes it, a shortcut's current is not computed; it is counted all the same. */
            if ((taking || SPQ_COUNTS) && l->shortcut) {
                for (c = 0; c < channels; ++c)
                    SPQ_COUNT_OUTPUT(c, 1);
                add_current(l->shortcut, row, column, currents);
            }
            if (taking && l->identity)
                add_pixel(currents, l->identity, row, column, l->identity_up);
            fire(&l->neurons, currents, channels, l->neurons.spikes + at * size);
            write_codes(&l->neurons, at * channels, channels);
        }
    SPQ_TRACE_LAYER(l->number, l->neurons.spikes, at * size);
}

/*@ATTENTION@*/
/* Computes (q k^T) v of each head, token by token; the sums are currents. All values are 0 or 1. */
static SPQ_INLINE void attention(const spq_attention *a)
{
    const uint32_t channels = a->q.channels, size = bytes_of(channels), tokens = (uint32_t)a->q.height * a->q.width;
    const uint32_t per_head = channels / a->heads;
    static uint32_t common[SPQ_MOST_HEADS];
    uint8_t *const in_q = is_open; /* no gate needs it here */
    uint32_t i, j, e, found;
    for (i = 0; i < tokens; ++i) {
        memset(currents, 0, sizeof currents[0] * channels);
        memset(in_q, 0, channels);
        found = events_at(&a->q, i / a->q.width, i % a->q.width);
        for (e = 0; e < found; ++e)
            in_q[event_channel[e]] = 1;
        for (j = 0; j < tokens; ++j) {
            uint32_t any = 0;
            memset(common, 0, sizeof common[0] * a->heads);
            found = events_at(&a->k, j / a->q.width, j % a->q.width);
            for (e = 0; e < found; ++e)
                if (in_q[event_channel[e]]) {
                    ++common[event_channel[e] / per_head];
                    any = 1;
                }
            if (!any)
                continue;
            found = events_at(&a->v, j / a->q.width, j % a->q.width);
            for (e = 0; e < found; ++e)
                currents[event_channel[e]] +=
                    (spq_potential)common[event_channel[e] / per_head] * ((spq_potential)1 << a->up);
        }
        read_codes(&a->neurons, i * channels, channels);
        fire(&a->neurons, currents, channels, a->neurons.spikes + i * size);
        write_codes(&a->neurons, i * channels, channels);
    }
    SPQ_TRACE_LAYER(a->number, a->neurons.spikes, tokens * size);
}
/*@END@*/
/*@SUM@*/
/* Adds two maps; the sums are bytes. */
static void sum_maps(const spq_map *a, const spq_map *b, uint8_t *to)
{
    const spq_map *maps[2];
    uint32_t row, column, m, e;
    maps[0] = a;
    maps[1] = b;
    memset(to, 0, (size_t)a->height * a->width * a->channels);
    for (row = 0; row < a->height; ++row)
        for (column = 0; column < a->width; ++column, to += a->channels)
            for (m = 0; m < 2; ++m) {
                const uint32_t found = events_at(maps[m], row, column);
                for (e = 0; e < found; ++e)
                    to[event_channel[e]] = (uint8_t)(to[event_channel[e]] + event_value[e]);
            }
}
/*@END@*/
/*@POOL@*/
/* Pools a map. */
static void pool(const spq_pool *p)
{
    const spq_window *w = &p->window;
    const uint32_t size = p->is_bits ? bytes_of(p->in.channels) : p->in.channels;
    uint8_t *to = p->to;
    uint32_t row, column, i, j, e;
    memset(to, 0, (size_t)p->height * p->width * size);
    for (row = 0; row < p->height; ++row)
        for (column = 0; column < p->width; ++column, to += size)
            for (i = 0; i < w->rows; ++i)
                for (j = 0; j < w->columns; ++j) {
                    const uint32_t r = row * w->down + i - w->above, c = column * w->right + j - w->before;
                    const uint32_t found = r < p->in.height && c < p->in.width ? events_at(&p->in, r, c) : 0u;
                    for (e = 0; e < found; ++e) {
                        uint8_t *at = to + (p->is_bits ? event_channel[e] >> 3 : event_channel[e]);
                        if (p->is_bits)
                            *at = (uint8_t)(*at | 1u << (event_channel[e] & 7u));
                        else if (!p->takes_largest)
                            *at = (uint8_t)(*at + event_value[e]);
                        else if (event_value[e] > *at)
                            *at = (uint8_t)event_value[e];
                    }
                }
}
/*@END@*/
/*@AVERAGE@*/
/* Adds the pixels of each channel. */
static void average(const spq_map *in, uint32_t *to)
{
    uint32_t row, column, e;
    memset(to, 0, sizeof to[0] * in->channels);
    for (row = 0; row < in->height; ++row)
        for (column = 0; column < in->width; ++column) {
            const uint32_t found = events_at(in, row, column);
            for (e = 0; e < found; ++e)
                to[event_channel[e]] += event_value[e];
        }
}
/*@END@*/

/*@MEMBRANE@*/
/* Lets the membranes of the classes leak, rounded to the nearest, halves up, and take their bias. */
static void leak_classes(const int32_t *offset)
{
    uint32_t k;
    for (k = 0; k < SPQ_CLASSES; ++k) {
        const int64_t kept = (int64_t)membranes[k] * SPQ_CLASS_LEAK + (((int64_t)1 << SPQ_CLASS_LEAK_BITS) >> 1);
        const int64_t down = kept >= 0 ? kept >> SPQ_CLASS_LEAK_BITS : ~(~kept >> SPQ_CLASS_LEAK_BITS);
        membranes[k] = (int32_t)down + offset[k];
    }
}

/* Shows the membranes as they are after a time step. */
static void show_classes(void)
{
    uint32_t k;
    for (k = 0; k < SPQ_CLASSES; ++k)
        logits[k] = SPQ_SUMS_MEMBRANES ? logits[k] + membranes[k] : membranes[k];
}
/*@END@*/
/*@READOUT@*/
static SPQ_INLINE void readout(const spq_readout *r)
{
    const uint32_t features = (uint32_t)r->in.height * r->in.width * r->in.channels;
    const uint32_t size = row_bytes(features, r->bits);
    const int32_t offset = code_offset(r->bits), times = r->bits == 1 ? 2 : 1;
    uint32_t row, column, e, k;
    for (row = 0; row < r->in.height; ++row)
        for (column = 0; column < r->in.width; ++column) {
            const uint32_t found = events_at(&r->in, row, column);
            const uint32_t first = (row * r->in.width + column) * r->in.channels;
            for (e = 0; e < found; ++e)
                for (k = 0; k < r->classes; ++k) {
                    const int32_t code = (int32_t)code_at(r->weights + (size_t)k * size, features, r->bits,
                                                          first + event_channel[e]);
                    accumulators[k] += (times * code - offset) * (int32_t)event_value[e];
                }
            SPQ_COUNT_OPS((uint64_t)found * r->classes);
        }
}
/*@END@*/
/*@COUNT@*/
/* Adds the values of each class's channels. */
static SPQ_INLINE void count_spikes(const spq_count *r)
{
    uint32_t row, column, e;
    for (row = 0; row < r->in.height; ++row)
        for (column = 0; column < r->in.width; ++column) {
            const uint32_t found = events_at(&r->in, row, column);
            for (e = 0; e < found; ++e)
                logits[event_channel[e] / r->votes] += event_value[e];
        }
}
/*@END@*/

/* ---------------------------------------------------------------- the network */

/*@STEPS@*/

const int32_t *spq_logits(void) { return logits; }

int spq_class(void)
{
    int best = 0, k;
    for (k = 1; k < SPQ_CLASSES; ++k)
        if (logits[k] > logits[best])
            best = k;
    return best;
}
