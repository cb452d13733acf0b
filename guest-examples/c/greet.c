// Asks for a name and greets, in C, with the canonical ABI by hand and no library at all.
//
// `cargo xtask guests` compiles it, with clang for wasm32-unknown-unknown, and makes the core
// module a component with the WIT of wit/.

#include "parole.h"

EXPORT("run")
run_result *run(void) {
  const string prompt = STRING("What is your name?");
  input_result input;
  host_input(prompt.at, prompt.length, &input);
  if (input.is_error) return ended(&input.of.error);

  print(join(STRING("Hello, "), input.of.answer, STRING("!")));
  return ended(NULL);
}
