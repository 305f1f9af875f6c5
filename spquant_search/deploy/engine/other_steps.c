/* ---------------------------------------------------------------- other steps */

/*@ATTENTION@*/
/* Computes (q k^T) v of each head, token by token; the sums are currents. All values are 0 or 1. */
static void attention(const spq_attention *a)
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
                            *at = (uint8_t)(*at | 0x80u >> (event_channel[e] & 7u));
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
static void readout(const spq_readout *r)
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
static void count_spikes(const spq_count *r)
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

