// Launches a kernel through the driver without the detour of Python's foreign functions, which
// takes as long as a small kernel runs.
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {

typedef int (*Run)(void *kernel, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                   unsigned shared, void *stream, void **parameters, void **extra);
const int MOST = 128;

// One kernel with its grid, its block and its bytes of shared memory, on one device.
struct Launch {
  PyObject_HEAD
  vectorcallfunc call;
  Run run;
  void *kernel;
  unsigned size[7];
  PyObject *stream_of, *index, *failed;
  char types[MOST + 1];  // of each parameter: f for a float, d for a double, i for a whole number or an address
  int count;
};

union Value {
  uint64_t whole;
  float single;
  double real;
};

PyObject *data_ptr;

// The address of a tensor, a number, or zero for None.
bool put(Value *value, char type, PyObject *given) {
  value->whole = 0;
  if (given == Py_None) return true;
  PyObject *made = nullptr;
  if (!PyLong_Check(given) && !PyFloat_Check(given)) {
    made = PyObject_CallMethodNoArgs(given, data_ptr);
    if (!made && PyErr_ExceptionMatches(PyExc_AttributeError)) {
      PyErr_Clear();
      made = type == 'f' || type == 'd' ? PyNumber_Float(given) : PyNumber_Long(given);
    }
    if (!made) return false;
    given = made;
  }
  if (type == 'f' || type == 'd') {
    const double real = PyFloat_AsDouble(given);
    if (type == 'f') value->single = (float)real;
    else value->real = real;
  } else if (PyFloat_Check(given)) {
    value->whole = (uint64_t)(int64_t)PyFloat_AsDouble(given);
  } else {
    value->whole = PyLong_AsUnsignedLongLongMask(given);
  }
  Py_XDECREF(made);
  return !PyErr_Occurred();
}

PyObject *launch(PyObject *self, PyObject *const *given, size_t flags, PyObject *names) {
  Launch *it = (Launch *)self;
  const Py_ssize_t count = PyVectorcall_NARGS(flags);
  if (count != it->count || (names && PyTuple_GET_SIZE(names)))
    return PyErr_Format(PyExc_TypeError, "%d arguments are taken, %zd were given", it->count, count);
  Value values[MOST];
  void *parameters[MOST];
  for (int i = 0; i < count; i++) {
    parameters[i] = &values[i];
    if (!put(&values[i], it->types[i], given[i])) return nullptr;
  }
  PyObject *stream = PyObject_CallOneArg(it->stream_of, it->index);
  if (!stream) return nullptr;
  void *raw = PyLong_AsVoidPtr(stream);
  Py_DECREF(stream);
  const unsigned *n = it->size;
  const int error =
      it->run(it->kernel, n[0], n[1], n[2], n[3], n[4], n[5], n[6], raw, parameters, nullptr);
  if (!error) Py_RETURN_NONE;
  PyObject *code = PyLong_FromLong(error);
  PyObject *told = code ? PyObject_CallOneArg(it->failed, code) : nullptr;
  Py_XDECREF(code);
  return told;
}

// Launch(address of cuLaunchKernel, kernel, types, seven sizes, what tells the current stream of a
// device, the device, what raises for an error)
PyObject *made(PyTypeObject *type, PyObject *arguments, PyObject *) {
  unsigned long long run, kernel;
  const char *types;
  Py_ssize_t count;
  unsigned n[7];
  PyObject *stream_of, *index, *failed;
  if (!PyArg_ParseTuple(arguments, "KKs#IIIIIIIOOO", &run, &kernel, &types, &count, n, n + 1,
                        n + 2, n + 3, n + 4, n + 5, n + 6, &stream_of, &index,
                        &failed))
    return nullptr;
  if (count > MOST) return PyErr_Format(PyExc_ValueError, "more than %d parameters", MOST);
  Launch *it = (Launch *)type->tp_alloc(type, 0);
  if (!it) return nullptr;
  it->call = launch;
  it->run = (Run)run;
  it->kernel = (void *)kernel;
  memcpy(it->size, n, sizeof n);
  memcpy(it->types, types, count);
  it->count = (int)count;
  it->stream_of = Py_NewRef(stream_of);
  it->index = Py_NewRef(index);
  it->failed = Py_NewRef(failed);
  return (PyObject *)it;
}

void gone(PyObject *self) {
  Launch *it = (Launch *)self;
  Py_XDECREF(it->stream_of);
  Py_XDECREF(it->index);
  Py_XDECREF(it->failed);
  Py_TYPE(self)->tp_free(self);
}

PyTypeObject kind = {PyVarObject_HEAD_INIT(nullptr, 0)};
PyModuleDef module = {PyModuleDef_HEAD_INIT, "launcher", nullptr, -1};

}  // namespace

PyMODINIT_FUNC PyInit_launcher() {
  kind.tp_name = "launcher.Launch";
  kind.tp_basicsize = sizeof(Launch);
  kind.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL;
  kind.tp_vectorcall_offset = offsetof(Launch, call);
  kind.tp_call = PyVectorcall_Call;
  kind.tp_new = made;
  kind.tp_dealloc = gone;
  data_ptr = PyUnicode_InternFromString("data_ptr");
  PyObject *made_module = PyModule_Create(&module);
  if (!made_module || !data_ptr || PyType_Ready(&kind) ||
      PyModule_AddObjectRef(made_module, "Launch", (PyObject *)&kind))
    return nullptr;
  return made_module;
}
