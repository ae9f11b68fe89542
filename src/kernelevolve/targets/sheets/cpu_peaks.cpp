// Measures what this processor reaches: copy bandwidth by working-set size, multiply-add rate by
// type. Prints one JSON object. Usage: peaks THREADS
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#ifdef _OPENMP
#include <omp.h>
#endif

typedef float f32 __attribute__((vector_size(64)));
typedef double f64 __attribute__((vector_size(64)));

static double now() {
    using clock = std::chrono::steady_clock;
    return std::chrono::duration<double>(clock::now().time_since_epoch()).count();
}

template <class V> static double multiply_add_seconds(int64_t rounds) {
    typedef decltype(V{}[0] + V{}[0]) scalar;
    double start = now();
#pragma omp parallel
    {
        V sum[12];
        for (int i = 0; i < 12; ++i) sum[i] = V{} + 1;
        V a = V{} + scalar(1 + 1e-7), b = V{} + scalar(1e-7);
        for (int64_t r = 0; r < rounds; ++r)
#pragma GCC unroll 12
            for (int i = 0; i < 12; ++i) sum[i] = sum[i] * a + b;
        for (int i = 0; i < 12; ++i) asm volatile("" ::"m"(sum[i]));
    }
    return now() - start;
}

template <class V> static double operations_per_second(int threads) {
    const int lanes = sizeof(V) / sizeof(V{}[0]);
    const int64_t rounds = 2000000;
    double best = 1e30;
    for (int i = 0; i < 8; ++i) {
        double seconds = multiply_add_seconds<V>(rounds);
        if (seconds < best) best = seconds;
    }
    return 2.0 * lanes * 12 * rounds * threads / best;
}

static double copy_rate(char *from, char *to, int64_t bytes, int threads) {
    int64_t share = bytes / 2 / threads, rounds = (int64_t(96) << 20) / bytes + 1;
    double best = 1e30;
    for (int i = 0; i < 5; ++i) {
        double start = now();
#pragma omp parallel
        {
            int me = 0;
#ifdef _OPENMP
            me = omp_get_thread_num();
#endif
            for (int64_t r = 0; r < rounds; ++r) {
                memcpy(to + me * share, from + me * share, share);
                asm volatile("" ::: "memory");
            }
        }
        double seconds = (now() - start) / rounds;
        if (seconds < best) best = seconds;
    }
    return 2.0 * share * threads / best;
}

static double read_rate(char *from, int64_t bytes, int threads) {
    int64_t vectors = bytes / threads / 64, rounds = (int64_t(96) << 20) / bytes + 1;
    double best = 1e30;
    for (int i = 0; i < 5; ++i) {
        double start = now();
#pragma omp parallel
        {
            int me = 0;
#ifdef _OPENMP
            me = omp_get_thread_num();
#endif
            const f32 *data = (const f32 *)from + me * vectors;
            for (int64_t r = 0; r < rounds; ++r) {
                f32 sum[8] = {};
                for (int64_t v = 0; v + 8 <= vectors; v += 8)
                    for (int j = 0; j < 8; ++j) sum[j] += data[v + j];
                for (int j = 0; j < 8; ++j) asm volatile("" ::"m"(sum[j]));
            }
        }
        double seconds = (now() - start) / rounds;
        if (seconds < best) best = seconds;
    }
    return double(vectors) * 64 * threads / best;
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 1;
#ifdef _OPENMP
    omp_set_num_threads(threads);
#endif
    const int64_t largest = int64_t(256) << 20;
    char *from = (char *)aligned_alloc(64, largest), *to = (char *)aligned_alloc(64, largest);
    if (!from || !to) return 1;
    memset(from, 0, largest);
    memset(to, 0, largest);
    printf("{\"bandwidth\": [");
    const char *comma = "";
    for (int64_t bytes = int64_t(32) << 10; bytes <= largest; bytes *= 2) {
        double copy = copy_rate(from, to, bytes, threads), read = read_rate(from, bytes, threads);
        printf("%s[%lld, %.0f]", comma, (long long)bytes, copy > read ? copy : read);
        comma = ", ";
    }
    printf("], \"float32\": %.0f, \"float64\": %.0f}\n", operations_per_second<f32>(threads),
           operations_per_second<f64>(threads));
}
