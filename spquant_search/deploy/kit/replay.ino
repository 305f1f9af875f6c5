/* Runs the samples that replay.py, in this folder, sends from a computer, and answers with what the network says:
 *
 *     python replay.py PORT
 *
 * It asks for each frame, so that no more is sent than it can take. */
#include <Arduino.h>
#include <model.h>

static uint8_t frame[SPQ_FRAME_BYTES];

/* Asks for a frame and waits for all of it; false where nothing came for two seconds. */
static bool receive(uint32_t number)
{
    uint32_t at = 0;
    unsigned long last = millis();
    Serial.print("frame ");
    Serial.println((unsigned long)number);
    while (at < SPQ_FRAME_BYTES) {
        int got = Serial.read();
        if (got >= 0) {
            frame[at++] = (uint8_t)got;
            last = millis();
        } else if (millis() - last > 2000UL) {
            return false;
        }
    }
    return true;
}

static void answer(unsigned long microseconds)
{
    int k;
    Serial.print("class ");
    Serial.print(spq_class());
    Serial.print(" microseconds ");
    Serial.print(microseconds);
    Serial.print(" logits");
    for (k = 0; k < SPQ_CLASSES; ++k) {
        Serial.print(' ');
        Serial.print((long)spq_logits()[k]);
    }
    Serial.println();
}

void setup()
{
    Serial.begin(115200);
    while (!Serial) {
    }
}

/* Says twice a second that it waits, and runs a sample where an S is the answer. */
void loop()
{
    static unsigned long said = 0;
    unsigned long begin, microseconds = 0;
    uint32_t t;
    if (Serial.read() != 'S') {
        if (millis() - said > 500UL) {
            Serial.println("ready");
            said = millis();
        }
        return;
    }
    spq_reset();
    for (t = 0; t < SPQ_TIME_STEPS; ++t) {
        if (t < SPQ_FRAMES && !receive(t))
            return;
        begin = micros();
        spq_step(frame);
        microseconds += micros() - begin;
    }
    answer(microseconds);
    said = 0; /* the next one may come at once */
}
