// What half and bfloat16 have in common; included once for each.
#define SIMT_STEP(op)                                                                           \
  inline SIMT_NARROW operator op(SIMT_NARROW a, SIMT_NARROW b) {                                \
    return SIMT_NARROW(float(a) op float(b));                                                   \
  }                                                                                             \
  inline SIMT_NARROW& operator op##=(SIMT_NARROW& a, SIMT_NARROW b) { return a = a op b; }      \
  inline SIMT_NARROW2 operator op(SIMT_NARROW2 a, SIMT_NARROW2 b) { return {a.x op b.x, a.y op b.y}; }
SIMT_STEP(+)
SIMT_STEP(-)
SIMT_STEP(*)
SIMT_STEP(/)
#undef SIMT_STEP
inline SIMT_NARROW operator-(SIMT_NARROW a) { return SIMT_NARROW(-float(a)); }
inline bool operator<(SIMT_NARROW a, SIMT_NARROW b) { return float(a) < float(b); }
inline bool operator>(SIMT_NARROW a, SIMT_NARROW b) { return float(a) > float(b); }
inline bool operator<=(SIMT_NARROW a, SIMT_NARROW b) { return float(a) <= float(b); }
inline bool operator>=(SIMT_NARROW a, SIMT_NARROW b) { return float(a) >= float(b); }
inline bool operator==(SIMT_NARROW a, SIMT_NARROW b) { return float(a) == float(b); }
inline bool operator!=(SIMT_NARROW a, SIMT_NARROW b) { return float(a) != float(b); }
inline SIMT_NARROW __hadd(SIMT_NARROW a, SIMT_NARROW b) { return a + b; }
inline SIMT_NARROW __hsub(SIMT_NARROW a, SIMT_NARROW b) { return a - b; }
inline SIMT_NARROW __hmul(SIMT_NARROW a, SIMT_NARROW b) { return a * b; }
inline SIMT_NARROW __hdiv(SIMT_NARROW a, SIMT_NARROW b) { return a / b; }
inline SIMT_NARROW __hneg(SIMT_NARROW a) { return -a; }
inline SIMT_NARROW __habs(SIMT_NARROW a) { return SIMT_NARROW(fabsf(float(a))); }
inline SIMT_NARROW __hmax(SIMT_NARROW a, SIMT_NARROW b) { return SIMT_NARROW(fmaxf(float(a), float(b))); }
inline SIMT_NARROW __hmin(SIMT_NARROW a, SIMT_NARROW b) { return SIMT_NARROW(fminf(float(a), float(b))); }
inline SIMT_NARROW __hfma(SIMT_NARROW a, SIMT_NARROW b, SIMT_NARROW c) {
  return SIMT_NARROW(fmaf(float(a), float(b), float(c)));
}
inline bool __hlt(SIMT_NARROW a, SIMT_NARROW b) { return a < b; }
inline bool __hgt(SIMT_NARROW a, SIMT_NARROW b) { return a > b; }
inline bool __hisnan(SIMT_NARROW a) { return isnan(float(a)); }
inline SIMT_NARROW hexp(SIMT_NARROW a) { return SIMT_NARROW(expf(float(a))); }
inline SIMT_NARROW hlog(SIMT_NARROW a) { return SIMT_NARROW(logf(float(a))); }
inline SIMT_NARROW hsqrt(SIMT_NARROW a) { return SIMT_NARROW(sqrtf(float(a))); }
inline SIMT_NARROW hrsqrt(SIMT_NARROW a) { return SIMT_NARROW(1.0f / sqrtf(float(a))); }
inline SIMT_NARROW hrcp(SIMT_NARROW a) { return SIMT_NARROW(1.0f / float(a)); }
inline SIMT_NARROW2 __hadd2(SIMT_NARROW2 a, SIMT_NARROW2 b) { return a + b; }
inline SIMT_NARROW2 __hsub2(SIMT_NARROW2 a, SIMT_NARROW2 b) { return a - b; }
inline SIMT_NARROW2 __hmul2(SIMT_NARROW2 a, SIMT_NARROW2 b) { return a * b; }
inline SIMT_NARROW2 __h2div(SIMT_NARROW2 a, SIMT_NARROW2 b) { return a / b; }
inline SIMT_NARROW2 __hfma2(SIMT_NARROW2 a, SIMT_NARROW2 b, SIMT_NARROW2 c) {
  return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};
}
inline SIMT_NARROW2 __hmax2(SIMT_NARROW2 a, SIMT_NARROW2 b) { return {__hmax(a.x, b.x), __hmax(a.y, b.y)}; }
inline SIMT_NARROW2 __hmin2(SIMT_NARROW2 a, SIMT_NARROW2 b) { return {__hmin(a.x, b.x), __hmin(a.y, b.y)}; }
SIMT_ATOMIC(atomicAdd, SIMT_NARROW, old + v)
SIMT_ATOMIC(atomicAdd, SIMT_NARROW2, old + v)
