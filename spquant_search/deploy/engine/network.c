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
