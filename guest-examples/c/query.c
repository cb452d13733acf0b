// Asks for an item and says how many of it a database has.
//
//     echo nut | parole run query-c.wasm --level trusted --database shop=sqlite:shop.db --stdin -

#include "parole.h"

enum { NIL, INTEGER, REAL, TEXT, BLOB };

// variant value: every case in the place of the largest one.
typedef struct {
  uint8_t which;
  union {
    int64_t integer;
    double real;
    string text;
  } of;
} value;

// record rows: a row is a list of values.
typedef struct {
  const value *values;
  size_t count;
} row;

typedef struct {
  const string *columns;
  size_t column_count;
  const row *rows;
  size_t row_count;
} rows;

// result<rows, error>
typedef struct {
  uint8_t is_error;
  union {
    rows rows;
    error error;
  } of;
} query_result;

IMPORT("query", "query")
void host_query(const char *database, size_t database_length, const char *sql, size_t sql_length,
                const value *parameters, size_t parameter_count, query_result *result);

static void query(string database, string sql, const value *parameters, size_t count,
                  query_result *result) {
  host_query(database.at, database.length, sql.at, sql.length, parameters, count, result);
}

EXPORT("run")
run_result *run(void) {
  const string prompt = STRING("Which item?");
  input_result input;
  host_input(prompt.at, prompt.length, &input);
  if (input.is_error) return ended(&input.of.error);

  // What a person typed goes in as a value. As part of the text it could be any SQL.
  const value item = {TEXT, {.text = input.of.answer}};
  query_result result;
  query(STRING("shop"), STRING("SELECT count FROM stock WHERE item = ?1"), &item, 1, &result);
  if (result.is_error) return ended(&result.of.error);

  const rows *found = &result.of.rows;
  if (found->row_count == 0) {
    print(join(STRING("no "), input.of.answer, STRING(" is known")));
  } else if (found->rows[0].count == 1 && found->rows[0].values[0].which == INTEGER) {
    string count = decimal(found->rows[0].values[0].of.integer);
    print(join(count, STRING(" x "), input.of.answer));
  } else {
    const error odd = {8, {.text = STRING("the count is no integer")}};
    return ended(&odd);
  }
  return ended(NULL);
}
