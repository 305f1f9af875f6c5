/* Operations are counted where an input that is not zero reaches an output that is counted: that of a neuron that takes
 * it, and every output of a shortcut. */
#ifdef SPQ_COUNT
uint64_t spq_synaptic_ops;
/*@PLAIN@*/
static uint8_t is_counted[SPQ_MOST_CHANNELS];
static uint32_t outputs_counted(uint32_t first, uint32_t number)
{
    uint32_t o, found = 0;
    for (o = first; o < first + number; ++o)
        found += is_counted[o];
    return found;
}
/*@END@*/
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
#define SPQ_TRACE_LAYER(number, spikes, bytes) \
    do {                                       \
        if (spq_trace)                         \
            spq_trace(number, spikes, bytes);  \
    } while (0)
#else
#define SPQ_TRACE_LAYER(number, spikes, bytes) ((void)0)
#endif

/* Working memory of the layers, which run one at a time. */
static uint16_t event_channel[SPQ_MOST_INPUTS];
static uint16_t event_value[SPQ_MOST_INPUTS];
static uint8_t is_open[SPQ_MOST_OPENED];
/*@PLAIN@*/
static spq_sum sums[SPQ_MOST_CHANNELS];
/* Sums of few codes in bytes, until they are added to the sums above. Here and for the codes of membranes a compiler
 * sees that words are taken, but not that they are not where there are fewer channels: it would warn. */
static uint8_t lanes[SPQ_MOST_CHANNELS < 8 ? 8 : SPQ_MOST_CHANNELS];
static uint32_t lanes_left; /* how many more inputs of value 1 fit into the lanes */
/*@END@*/
/*@NEURONS@*/
#if SPQ_TIME_STEPS > 1
static int16_t codes[SPQ_MOST_CHANNELS < 8 ? 8 : SPQ_MOST_CHANNELS];
#endif
static uint8_t fired[SPQ_MOST_CHANNELS];
static spq_potential currents[SPQ_MOST_CHANNELS];
/*@END@*/
/*@FAST@*/
static uint64_t effects[SPQ_MOST_GROUP];         /* what the sum of a channel is multiplied with; what is added then */
static uint32_t fast_sums[SPQ_MOST_SUMS + 1];    /* in pairs of 16 bits, or a word each */
static uint32_t fired_words[SPQ_MOST_GROUP / 32];
/*@END@*/
/*@WORDS@*/
static uint32_t open_words[SPQ_MOST_OPEN_WORDS]; /* the highest bits of the codes of open channels */
/*@END@*/
/*@FIRST@*/
static uint16_t columns_seen[SPQ_MOST_SEEN]; /* which inputs of three rows are not zero */
/*@END@*/
/*@LISTS@*/
static uint16_t list[SPQ_MOST_LISTED]; /* numbers of rows of weights */
/*@END@*/
/*@SUMS_2X2@*/
static uint8_t pooled[3][3][SPQ_MOST_POOLED]; /* row of the kernel, bit of the value */
static uint8_t (*pooled_rows[3])[SPQ_MOST_POOLED];
static uint8_t pair_sums[2][SPQ_MOST_POOLED];
static const uint8_t no_spikes[4] = {0, 0, 0, 0};
/*@END@*/
/*@SLICES@*/
#define SPQ_PLANES 16u
static uint32_t counters[SPQ_MOST_BLOCKS * SPQ_PLANES];
/*@END@*/
/*@BLOCKS@*/
static uint8_t open_blocks[SPQ_MOST_OPENED / 8]; /* eight channels each */
static uint32_t blocks_open;
/*@END@*/
/*@PAIRS@*/
static const uint32_t *paired_rows;
static uint16_t paired_channels[SPQ_MOST_OPENED];
/*@END@*/
/*@COMPACT@*/
static uint32_t compact_rows[SPQ_MOST_COMPACT];
/*@END@*/
/*@STORES@*/

/* Returns floor(value / 2^shift): the compiler decides what >> does with negative numbers. */
static inline int32_t floor_shift32(int32_t value, uint32_t shift)
{
#ifdef __GNUC__
    return value >> shift; /* these compilers keep the sign */
#else
    return value >= 0 ? value >> shift : ~(~value >> shift);
#endif
}
/*@END@*/

