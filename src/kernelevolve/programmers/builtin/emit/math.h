// Elementary functions on float scalars and vectors, about 1 ulp: argument reduction followed by
// polynomials fitted by weighted least squares (Chebyshev nodes, Lawson reweighting).
template <class V> using Bits = typename Traits<V>::bits;
template <class V> using Num = typename Traits<V>::scalar;
template <class V, class F> IN V each(V v, F f) {
  if constexpr (sizeof(V) == sizeof(Num<V>)) return f(v);
  else { V r; for (int i = 0; i < W; i++) r[i] = f(v[i]); return r; }
}
template <class V> constexpr bool is32 = sizeof(Num<V>) == 4;
template <class V> IN V k(double c) { return splat<V>((Num<V>)c); }
template <class V> IN V vabs(V v) { return sel(lt(v, V{}), -v, v + V{}); }
template <> IN vf32 vabs(vf32 v) { return as<vf32>(as<vi32>(v) & 0x7fffffff); }
template <> IN float vabs(float v) { return __builtin_fabsf(v); }
template <> IN double vabs(double v) { return __builtin_fabs(v); }
template <class V> IN V scale2(V v, V n) {  // v * 2**n, n integral in [-252, 252]
  typedef Bits<V> I;
  I i; if constexpr (sizeof(V) == 4) i = (int32_t)n; else i = to<I>(n);
  I half = i >> 1;
  return v * as<V>((I)((half + 127) << 23)) * as<V>((I)((i - half + 127) << 23));
}
#if defined(__AVX512F__) && W == 16
template <> IN vf32 scale2(vf32 v, vf32 n) { return __builtin_ia32_scalefps512_mask(v, n, v, 0xffff, 4); }
#endif
template <class V> IN V nearest(V v) { return (v + k<V>(12582912.0)) - k<V>(12582912.0); }
template <class V> IN V clamp(V v, double lo, double hi) {  // keeps NaN
  return vhardmin(k<V>(hi), vhardmax(k<V>(lo), v));
}
template <class V> IN V exp_tail(V r) {  // (e**r - 1 - r) / r**2
  return (((k<V>(1.395080906e-03) * r + k<V>(8.369072929e-03)) * r + k<V>(4.166620104e-02)) * r +
          k<V>(1.666651731e-01)) * r + k<V>(5.000000097e-01);
}
template <class V> IN V exp_tail_short(V r) {
  return ((k<V>(8.374861561e-03) * r + k<V>(4.189951697e-02)) * r + k<V>(1.666645500e-01)) * r +
         k<V>(4.999913786e-01);
}
template <class V> IN V rest(V x, V n) { return (x - n * k<V>(0.693359375)) + n * k<V>(2.12194440e-4); }
template <class V> IN V vexp(V x) {
  if constexpr (!is32<V>) return each(x, [](double v) { return __builtin_exp(v); });
  else {
    V y = clamp(x, -104.0, 89.0), n = nearest(y * k<V>(1.4426950408889634)), r = rest(y, n);
    V p = FAST_MATH ? exp_tail_short(r) : exp_tail(r);
    return scale2((p * r + k<V>(1.0)) * r + k<V>(1.0), n);
  }
}
template <class V> IN V vexpm1(V x) {
  if constexpr (!is32<V>) return each(x, [](double v) { return __builtin_expm1(v); });
  else {
    V y = clamp(x, -20.0, 89.0), n = nearest(y * k<V>(1.4426950408889634)), r = rest(y, n);
    V one = scale2(k<V>(0.5), n), e = (exp_tail(r) * (r * r) + r) * one + (one - k<V>(0.5));
    return e + e;
  }
}
template <class V> IN V vexp2(V x) {
  if constexpr (!is32<V>) return each(x, [](double v) { return __builtin_exp2(v); });
  else {
    V y = clamp(x, -151.0, 129.0), n = nearest(y), r = (y - n) * k<V>(0.6931471805599453);
    return scale2(exp_tail(r) * (r * r) + r + k<V>(1.0), n);
  }
}
template <class V> IN V vlog(V x) {
  if constexpr (!is32<V>) return each(x, [](double v) { return __builtin_log(v); });
  else {
    typedef Bits<V> I;
    auto tiny = lt(x, k<V>(1.17549435e-38));
    V y = sel(tiny, x * k<V>(8388608.0), x + V{});
    I u = as<I>(y) - 0x3f3504f3, e = u >> 23;
    V n; if constexpr (sizeof(V) == 4) n = (V)e; else n = to<V>(e);
    n = n - sel(tiny, k<V>(23.0), k<V>(0.0));
    V f = as<V>((I)((u & 0x7fffff) + 0x3f3504f3)) - k<V>(1.0);
    V p = k<V>(6.917016488e-02);
    p = p * f - k<V>(1.179192769e-01); p = p * f + k<V>(1.187338558e-01); p = p * f - k<V>(1.238404076e-01);
    p = p * f + k<V>(1.421856771e-01); p = p * f - k<V>(1.666926427e-01); p = p * f + k<V>(2.000223118e-01);
    p = p * f - k<V>(2.499998643e-01); p = p * f + k<V>(3.333331038e-01);
    V f2 = f * f, r = (f2 * f * p - n * k<V>(2.12194440e-4) - k<V>(0.5) * f2) + f + n * k<V>(0.693359375);
    r = sel(gt(x, k<V>(3.4028235e38)), x, r);
    r = sel(eq(x, k<V>(0.0)), k<V>(-__builtin_inf()), r);
    return sel(lt(x, k<V>(0.0)) | ne(x, x), k<V>(__builtin_nan("")), r);
  }
}
template <class V> IN V vlog2(V x) {
  if constexpr (!is32<V>) return each(x, [](double v) { return __builtin_log2(v); });
  else return each(x, [](float v) { return __builtin_log2f(v); });
}
template <class V> IN V vlog1p(V x) {
  if constexpr (!is32<V>) return each(x, [](double v) { return __builtin_log1p(v); });
  else {
    V u = k<V>(1.0) + x, d = u - k<V>(1.0);
    V r = vlog(u) * (x / sel(eq(d, V{}), k<V>(1.0), d));
    return sel(eq(d, V{}), x, sel(gt(x, k<V>(3.4028235e38)), x, r));
  }
}
template <class V> IN V vsqrt(V x) {
  if constexpr (!is32<V>) return each(x, [](double v) { return __builtin_sqrt(v); });
  else return each(x, [](float v) { return __builtin_sqrtf(v); });
}
#if defined(__AVX512F__) && W == 16
template <> IN vf32 vsqrt(vf32 x) { return __builtin_ia32_sqrtps512_mask(x, x, 0xffff, 4); }
#endif
template <class V> IN V vsigmoid(V x) {
  return k<V>(1.0) / (k<V>(1.0) + vexp(-x));
}
template <class V> IN V vtanh(V x) {
  if constexpr (!is32<V>) return each(x, [](double v) { return __builtin_tanh(v); });
  else {
    V a = vabs(x), z = x * x, e = vexp(a + a);
    V p = (((k<V>(2.064665126e-03) * z - k<V>(8.091968322e-03)) * z + k<V>(2.166634693e-02)) * z -
           k<V>(5.394056318e-02)) * z + k<V>(1.333315790e-01);
    p = (p * z - k<V>(3.333332961e-01)) * z * x + x;
    V big = k<V>(1.0) - k<V>(2.0) / (e + k<V>(1.0));
    return sel(lt(a, k<V>(0.625)), p, sel(lt(x, k<V>(0.0)), -big, big));
  }
}
template <class V> IN V verf(V x) {  // |x| < 1: odd polynomial; beyond: 1 - exp(log erfc)
  if constexpr (!is32<V>) return each(x, [](double v) { return __builtin_erf(v); });
  else {
    V z = x * x, a = clamp(vabs(x), 0.0, 4.0);
    V s = ((k<V>(7.889122825e-05) * z - k<V>(8.020842265e-04)) * z + k<V>(5.189535450e-03)) * z;
    s = (((s - k<V>(2.685444465e-02)) * z + k<V>(1.128360018e-01)) * z - k<V>(3.761262714e-01)) * z;
    V t = ((k<V>(1.879717004e-04) * a - k<V>(2.964006245e-03)) * a + k<V>(2.190647693e-02)) * a;
    t = (((t - k<V>(1.032562045e-01)) * a - k<V>(6.379649961e-01)) * a - k<V>(1.127202279e+00)) * a;
    V big = k<V>(1.0) - vexp(t - k<V>(3.124692735e-04));
    return sel(lt(a, k<V>(1.0)), x * (s + k<V>(1.128379166e+00)), sel(lt(x, k<V>(0.0)), -big, big));
  }
}
template <class V> IN V verf1p(V x) {  // 1 + erf(x) = erfc(-x), from log erfc(|x|)
  if constexpr (!is32<V>) return each(x, [](double v) { return 1.0 + __builtin_erf(v); });
  else {
    V a = vhardmin(k<V>(6.0), vabs(x));
    V t = k<V>(-3.074303879e-05);
    t = t * a + k<V>(3.028666307e-04); t = t * a - k<V>(1.012259446e-03); t = t * a - k<V>(5.719607141e-04);
    t = t * a + k<V>(1.961737264e-02); t = t * a - k<V>(1.029369637e-01); t = t * a - k<V>(6.365931736e-01);
    t = (t * a - k<V>(1.128380759e+00)) * a + k<V>(1.505347704e-08);
    V n = nearest(t * k<V>(1.4426950408889634)), r = rest(t, n);
    V e = scale2((exp_tail(r) * r + k<V>(1.0)) * r + k<V>(1.0), n);
    return sel(lt(x, V{}), sel(lt(a, k<V>(6.0)), e, V{}), k<V>(2.0) - e);  // 0: x may be huge
  }
}
#define LIBM(name, f, d) template <class V> IN V name(V x) { \
    if constexpr (is32<V>) return each(x, [](float v) { return f(v); }); \
    else return each(x, [](double v) { return d(v); }); }
LIBM(vsin, __builtin_sinf, __builtin_sin) LIBM(vcos, __builtin_cosf, __builtin_cos)
LIBM(vfloor, __builtin_floorf, __builtin_floor) LIBM(vceil, __builtin_ceilf, __builtin_ceil)
LIBM(vround, __builtin_nearbyintf, __builtin_nearbyint) LIBM(vtrunc, __builtin_truncf, __builtin_trunc)
template <class V> IN V vpow(V x, V y) {
  if constexpr (sizeof(V) == sizeof(Num<V>)) return (V)__builtin_pow(x, y);
  else { V r; for (int i = 0; i < W; i++) r[i] = (Num<V>)__builtin_pow(x[i], y[i]); return r; }
}
template <class V> IN V vsign(V x) {
  return sel(gt(x, V{}), splat<V>(1), sel(lt(x, V{}), splat<V>(-1), x - x));
}
