/* ---------------------------------------------------------------- plain: convolutions */

/*@GATES@*/
/* Decides which output channels the gate opens in this time step. */
static void predict(const spq_layer *l)
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
static void convolution(const spq_layer *l)
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

