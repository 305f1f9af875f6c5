/*@NOTICE@*/
/* A spiking network in integers: no floating point, no allocation, nothing beyond stdint and string.
 *
 * The work depends on the spikes. For every position of a layer, each non-zero input under the kernel adds its row of
 * weights to one sum for each channel; then the neurons of the position take their currents. Between time steps only
 * the potentials are kept, packed in the bits that their levels need: nothing where there is a single step. Spikes are
 * kept only until the layers that read them have run.
 *
 * A layer takes one of two paths. The plain one is right for every layer. The fast one is for the layers that most
 * networks consist of; it works on 32 channels at once. manifest.json says which layer takes which, and why. Both read
 * and write the same maps, so that they follow each other in any order.
 *
 * reference.py beside this file explains the arithmetic; every number here equals the one there. */

#include "model.h"

#include <string.h>

#ifdef __GNUC__
#define SPQ_INLINE inline __attribute__((always_inline))
#define SPQ_ALONE __attribute__((noinline))          /* so that its loop has all registers */
#define SPQ_IN_REGISTER(a) __asm__("" : "+r"(a))     /* a constant that no instruction with a shift can hold */
#else
#define SPQ_INLINE inline
#define SPQ_ALONE
#define SPQ_IN_REGISTER(a) ((void)0)
#endif

/* How the values of a map lie in memory, [row][column][channel]. */
enum {
    SPQ_INPUT,    /* the frame's counts in bytes; larger ones are read as `largest` */
    SPQ_BITS,     /* spikes; the channels of a pixel fill whole bytes, the first in the highest bit */
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
/*@FAST@*/
/* How the sums of a fast layer are formed, each explained where it is done, */
enum { SPQ_COUNTS_4, SPQ_COUNTS_8, SPQ_SLICES, SPQ_LANES, SPQ_PAIRS };
/* and what its neurons are. */
enum { SPQ_ONCE, SPQ_TWO_BITS, SPQ_WORDS_OF_CODES, SPQ_ANY };

/* The rule of neurons of no special kind; a leak and what a spike takes off as in spq_neurons. */
typedef struct {
    int16_t lowest, highest, cut, leak;
    int32_t subtracts;
    uint8_t leak_up, round_down, subtracts_up, threshold_up, at_threshold;
} spq_rule;

/* A convolution of 3x3 with stride 1, on spikes or on the frame's counts. */
typedef struct {
    const uint32_t *weights; /* [word of channels][row, and one of zeros] */
    const int16_t *slope;
    const int32_t *offset;
    const uint32_t *gate;   /* [output channels, four a word][input channel], 128 added, or null */
    const uint8_t *at_rest; /* for each channel: is it open when no input spikes? */
    const uint8_t *in;
    uint8_t *spikes;
    uint32_t *membrane;
    const spq_rule *rule;
    uint16_t in_channels, in_height, in_width, channels, height, width;
    uint16_t rows;  /* of weights, with the one of zeros */
    uint16_t group; /* neurons of as many positions as fill whole words with their spikes */
    uint16_t number;
    int16_t counted_from; /* stored codes that are lower take no current: for SPQ_COUNT */
    uint32_t times, less; /* slopes and offsets are multiplied with the one; the other is subtracted from offsets */
    uint32_t mask;        /* fields of a word of weights that are added at once */
    uint32_t least;       /* the lowest bits of codes, where none of them is 0 */
    uint32_t reaches;     /* what makes the highest bit of a code 1 where it is not below the cut */
    uint8_t kind, neurons, fires, bits, zero, limit, pools, wide, membrane_bits;
} spq_fast;
/*@END@*/

/*@TABLES@*/
