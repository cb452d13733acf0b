// What guests in C share: the strings and errors of the canonical ABI, and memory.
//
// There is no C library and no generated code. Imports and exports are named by attributes: that is
// how they and the WIT of wit/ find each other.

#pragma once

#include <stddef.h>
#include <stdint.h>

#define IMPORT(interface, function)                                                     \
  __attribute__((import_module("parole:capabilities/" interface "@0.1.0"),              \
                 import_name(function)))
#define EXPORT(name) __attribute__((export_name(name)))

// A WIT string is an address and a length in bytes, UTF-8. A result that does not fit in one
// number is written to an address that is passed last.
typedef struct {
  const char *at;
  size_t length;
} string;

#define STRING(literal) ((string){literal, sizeof(literal) - 1})

// variant error: which case it is, then what belongs to it. The u64 of `too-large` makes the
// compiler leave the same gaps that the canonical ABI prescribes.
typedef struct {
  uint8_t which;
  union {
    string text;
    uint64_t limit;
  } of;
} error;

// result<string, error>
typedef struct {
  uint8_t is_error;
  union {
    string answer;
    error error;
  } of;
} input_result;

// result<_, string>
typedef struct {
  uint8_t is_error;
  string message;
} run_result;

IMPORT("input", "input")
void host_input(const char *prompt, size_t length, input_result *result);

IMPORT("print", "print")
void host_print(const char *text, size_t length);

static inline void print(string text) { host_print(text.at, text.length); }

// Memory behind everything that the compiler placed. It is never given back: a run is short.
extern char __heap_base;
static uintptr_t next;

// The host calls this to get room for the strings and lists that it gives.
EXPORT("cabi_realloc")
void *cabi_realloc(void *old, size_t old_size, size_t align, size_t size) {
  if (next == 0) next = (uintptr_t)&__heap_base;
  uintptr_t start = (next + align - 1) & ~(uintptr_t)(align - 1);
  uintptr_t end = start + size;
  if (end < start) __builtin_trap();

  const size_t page = 65536;
  uintptr_t have = __builtin_wasm_memory_size(0) * page;
  if (end > have &&
      __builtin_wasm_memory_grow(0, (end - have + page - 1) / page) == (size_t)-1) {
    __builtin_trap();
  }

  for (size_t i = 0; i < old_size && i < size; i++) ((char *)start)[i] = ((char *)old)[i];
  next = end;
  return (void *)start;
}

static inline string join(string a, string b, string c) {
  char *at = cabi_realloc(NULL, 0, 1, a.length + b.length + c.length);
  char *to = at;
  for (size_t i = 0; i < a.length; i++) *to++ = a.at[i];
  for (size_t i = 0; i < b.length; i++) *to++ = b.at[i];
  for (size_t i = 0; i < c.length; i++) *to++ = c.at[i];
  return (string){at, a.length + b.length + c.length};
}

static inline string decimal(uint64_t number) {
  char *end = (char *)cabi_realloc(NULL, 0, 1, 20) + 20;
  char *at = end;
  do *--at = '0' + number % 10;
  while (number /= 10);
  return (string){at, end - at};
}

// The cases in the order of wit/types.wit.
static inline string describe(const error *error) {
  const string none = STRING("");
  switch (error->which) {
    case 0: return join(STRING("denied: "), error->of.text, none);
    case 1: return STRING("expired: nobody answered in time");
    case 2: return STRING("canceled");
    case 3: return STRING("the connection is closed");
    case 4: return STRING("not found");
    case 5: return join(STRING("invalid: "), error->of.text, none);
    case 6: return join(STRING("too large: the limit is "), decimal(error->of.limit), STRING(" bytes"));
    case 7: return join(STRING("exhausted: "), error->of.text, none);
    default: return join(STRING("failed: "), error->of.text, none);
  }
}

// What `run` returns. The host reads it after the return, so it may not be on the stack.
static inline run_result *ended(const error *error) {
  static run_result result;
  result.is_error = error != NULL;
  if (error != NULL) result.message = describe(error);
  return &result;
}
