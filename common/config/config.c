#include "common/config/config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

enum { STRING_BYTES_MAX = 1024, VARIABLE_BYTES = 128, FILE_BYTES_MAX = 4096 };

static const char file_suffix[] = "_FILE";

static const char version[] = "0.1.0";

const char *config_environment(void *arg, const char *name) {
    (void)arg;
    return getenv(name);
}

static bool is_text(const struct config_key *key) {
    return key->kind == CONFIG_STRING || key->kind == CONFIG_URL;
}

static int64_t length_max(const struct config_key *key) {
    return key->max > 0 ? key->max : STRING_BYTES_MAX;
}

/* Is `word` one of the words in `list`, which are separated by spaces? */
static bool is_listed(const char *list, struct str word) {
    while (*list != '\0') {
        const size_t len = strcspn(list, " ");
        if (str_eq(str_of(list, len), word)) {
            return true;
        }
        list += len + strspn(list + len, " ");
    }
    return false;
}

static bool has_scheme(const char *list, struct str url) {
    while (*list != '\0') {
        const size_t len = strcspn(list, " ");
        if (str_starts_with(url, str_of(list, len))) {
            return true;
        }
        list += len + strspn(list + len, " ");
    }
    return false;
}

static void set_string(const struct config_key *key, struct str text, void *field,
                       struct buf *problems) {
    const int64_t max = length_max(key);

    if ((int64_t)text.len < key->min || (int64_t)text.len > max) {
        buf_printf(problems, "%s: must be %" PRId64 " to %" PRId64 " characters long, is %zu\n",
                   key->name, key->min, max, text.len);
    } else if (key->kind == CONFIG_URL && key->accept != NULL && !has_scheme(key->accept, text)) {
        buf_printf(problems, "%s: must start with one of: %s\n", key->name, key->accept);
    } else if (key->kind == CONFIG_STRING && key->accept != NULL && !is_listed(key->accept, text)) {
        buf_printf(problems, "%s: must be one of: %s\n", key->name, key->accept);
    }
    /* Always set, so that the struct can be released as a whole. */
    char *copy = mem_strndup(text);
    memcpy(field, &copy, sizeof(copy));
}

static void set_bool(const struct config_key *key, struct str text, void *field,
                     struct buf *problems) {
    const bool yes = is_listed("true 1 yes on", text);

    if (!yes && !is_listed("false 0 no off", text)) {
        buf_printf(problems, "%s: must be true or false, is \"%.*s\"\n", key->name, STR_ARG(text));
    }
    memcpy(field, &yes, sizeof(yes));
}

/*
 * The text of the file that NAME_FILE names, without the line's end, into `text`. False: no such
 * variable, or a problem was added.
 */
static bool read_named_file(const struct config_key *key, config_lookup_fn *lookup, void *arg,
                            struct buf *text, struct buf *problems) {
    char name[VARIABLE_BYTES];
    char bytes[FILE_BYTES_MAX + 1];

    (void)snprintf(name, sizeof(name), "%s%s", key->name, file_suffix);
    const char *path = lookup(arg, name);
    if (path == NULL || path[0] == '\0') {
        return false;
    }
    const char *direct = lookup(arg, key->name);
    if (direct != NULL && direct[0] != '\0') {
        buf_printf(problems, "%s: %s is set, too: only one of them may be\n", name, key->name);
        return false;
    }
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        buf_printf(problems, "%s: %s: %s\n", name, path, strerror(errno));
        return false;
    }
    size_t len = fread(bytes, 1, sizeof(bytes), file);
    const bool failed = ferror(file) != 0;
    (void)fclose(file);
    while (len > 0 && (bytes[len - 1] == '\n' || bytes[len - 1] == '\r')) {
        len--;
    }
    if (failed || len == 0 || len > FILE_BYTES_MAX || memchr(bytes, '\0', len) != NULL) {
        buf_printf(problems, "%s: %s: must hold 1 to %d bytes of text\n", name, path,
                   (int)FILE_BYTES_MAX);
        return false;
    }
    buf_put(text, bytes, len);
    buf_put_char(text, '\0');
    return !buf_failed(text);
}

static void set_value(const struct config_key *key, struct str text, char *out,
                      struct buf *problems) {
    void *field = out + key->offset;
    enum log_level level = LOG_LEVEL_INFO;
    int64_t number = 0;

    switch (key->kind) {
    case CONFIG_STRING:
    case CONFIG_URL:
        set_string(key, text, field, problems);
        break;
    case CONFIG_INT:
        if (!str_to_i64(text, &number)) {
            buf_printf(problems, "%s: must be a whole number, is \"%.*s\"\n", key->name,
                       STR_ARG(text));
        } else if (number < key->min || number > key->max) {
            buf_printf(problems, "%s: must be %" PRId64 " to %" PRId64 "%s%s, is %" PRId64 "\n",
                       key->name, key->min, key->max, key->unit[0] ? " " : "", key->unit, number);
        }
        memcpy(field, &number, sizeof(number));
        break;
    case CONFIG_BOOL:
        set_bool(key, text, field, problems);
        break;
    case CONFIG_LEVEL:
        if (!log_level_parse(text, &level)) {
            buf_printf(problems, "%s: must be one of: debug info warn error off\n", key->name);
        }
        memcpy(field, &level, sizeof(level));
        break;
    }
}

enum err_code config_load(const struct config_spec *spec, config_lookup_fn *lookup, void *arg,
                          void *out, struct buf *problems) {
    const size_t before = problems->len;
    struct buf file;

    buf_init(&file, FILE_BYTES_MAX + 1);
    memset(out, 0, spec->struct_bytes);
    for (size_t i = 0; i < spec->key_count; i++) {
        const struct config_key *key = &spec->keys[i];
        const char *value = lookup(arg, key->name);
        buf_clear(&file);
        if (is_text(key) && read_named_file(key, lookup, arg, &file, problems)) {
            value = file.ptr;
        }
        if (value == NULL || value[0] == '\0') {
            value = key->default_value;
        }
        if (value == NULL) {
            buf_printf(problems, "%s: required: %s\n", key->name, key->help);
            value = "";
            if (!is_text(key)) {
                continue;
            }
            char *copy = mem_strdup(value);
            memcpy((char *)out + key->offset, &copy, sizeof(copy));
            continue;
        }
        set_value(key, str_from(value), out, problems);
    }
    buf_release(&file);
    return problems->len == before ? ERR_OK : ERR_INVALID;
}

void config_release(const struct config_spec *spec, void *out) {
    for (size_t i = 0; i < spec->key_count; i++) {
        const struct config_key *key = &spec->keys[i];
        if (is_text(key)) {
            char *value;
            memcpy(&value, (char *)out + key->offset, sizeof(value));
            mem_free(value);
        }
    }
    memset(out, 0, spec->struct_bytes);
}

static void print_limits(const struct config_key *key, FILE *out) {
    switch (key->kind) {
    case CONFIG_INT:
        (void)fprintf(out, "integer %" PRId64 "..%" PRId64 "%s%s", key->min, key->max,
                      key->unit[0] ? " " : "", key->unit);
        break;
    case CONFIG_BOOL:
        (void)fputs("boolean", out);
        break;
    case CONFIG_LEVEL:
        (void)fputs("one of: debug info warn error off", out);
        break;
    case CONFIG_STRING:
        if (key->accept != NULL) {
            (void)fprintf(out, "one of: %s", key->accept);
        } else {
            (void)fprintf(out, "text %" PRId64 "..%" PRId64 " characters", key->min,
                          length_max(key));
        }
        break;
    case CONFIG_URL:
        (void)fprintf(out, "URL (%s)", key->accept != NULL ? key->accept : "any");
        break;
    }
}

/* A URL with the password replaced: everything between the first ':' after "//" and the last '@'
 * before the path. */
static void print_url(const char *url, FILE *out) {
    const char *authority = strstr(url, "//");
    const char *start = authority != NULL ? authority + 2 : url;
    const size_t authority_len = strcspn(start, "/?");
    const char *at = memrchr(start, '@', authority_len);
    const char *colon = at != NULL ? memchr(start, ':', (size_t)(at - start)) : NULL;

    if (colon == NULL) {
        (void)fputs(url, out);
        return;
    }
    (void)fprintf(out, "%.*s:***%s", (int)(colon - url), url, at);
}

void config_print_help(const struct config_spec *spec, FILE *out) {
    (void)fprintf(out,
                  "%s: %s\n\n"
                  "usage: %s [--help | --version | --check%s]\n\n"
                  "  --help     this text\n"
                  "  --version  print the version\n"
                  "  --check    validate the configuration, print the values in force, and exit\n",
                  spec->program, spec->summary, spec->program,
                  spec->command_count > 0 ? " | COMMAND" : "");
    for (size_t i = 0; i < spec->command_count; i++) {
        (void)fprintf(out, "  %-9s  %s\n", spec->commands[i].name, spec->commands[i].help);
    }
    (void)fputs(
        "\nConfiguration comes from the environment. For a text or URL, NAME_FILE may name a "
        "file that holds it:\n\n",
        out);
    for (size_t i = 0; i < spec->key_count; i++) {
        const struct config_key *key = &spec->keys[i];
        (void)fprintf(out, "  %s\n      %s\n      ", key->name, key->help);
        print_limits(key, out);
        if (key->default_value == NULL) {
            (void)fputs("; required\n", out);
        } else if (key->secret) {
            (void)fputs("; secret\n", out);
        } else {
            (void)fprintf(out, "; default %s\n",
                          key->default_value[0] != '\0' ? key->default_value : "(empty)");
        }
    }
    (void)fputs("\nExit codes: 0 done or stopped by SIGTERM or SIGINT, 1 could not run, "
                "2 wrong arguments or configuration\n",
                out);
}

void config_print_effective(const struct config_spec *spec, const void *config, FILE *out) {
    static const char *const levels[] = {"debug", "info", "warn", "error", "off"};

    for (size_t i = 0; i < spec->key_count; i++) {
        const struct config_key *key = &spec->keys[i];
        const char *field = (const char *)config + key->offset;
        const char *text = NULL;
        enum log_level level = LOG_LEVEL_INFO;
        int64_t number = 0;
        bool flag = false;

        (void)fprintf(out, "%s=", key->name);
        switch (key->kind) {
        case CONFIG_STRING:
        case CONFIG_URL:
            memcpy(&text, field, sizeof(text));
            if (key->secret) {
                (void)fputs(text[0] != '\0' ? "(set)" : "(not set)", out);
            } else {
                print_url(text, out);
            }
            break;
        case CONFIG_INT:
            memcpy(&number, field, sizeof(number));
            (void)fprintf(out, "%" PRId64, number);
            break;
        case CONFIG_BOOL:
            memcpy(&flag, field, sizeof(flag));
            (void)fputs(flag ? "true" : "false", out);
            break;
        case CONFIG_LEVEL:
            memcpy(&level, field, sizeof(level));
            (void)fputs(levels[level], out);
            break;
        }
        (void)fputc('\n', out);
    }
}

static enum config_action load_or_complain(const struct config_spec *spec, void *out, bool check,
                                           int *exit_code) {
    enum config_action action = CONFIG_RUN;
    struct buf problems;

    buf_init(&problems, 64 * 1024);
    if (config_load(spec, config_environment, NULL, out, &problems) != ERR_OK) {
        (void)fputs(problems.ptr, stderr);
        config_release(spec, out);
        *exit_code = 2;
        action = CONFIG_EXIT;
    } else if (check) {
        (void)puts("configuration ok");
        config_print_effective(spec, out, stdout);
        config_release(spec, out);
        *exit_code = 0;
        action = CONFIG_EXIT;
    }
    buf_release(&problems);
    return action;
}

static bool is_command(const struct config_spec *spec, struct str word) {
    for (size_t i = 0; i < spec->command_count; i++) {
        if (str_eq(word, str_from(spec->commands[i].name))) {
            return true;
        }
    }
    return false;
}

enum config_action config_main(const struct config_spec *spec, int argc, char **argv, void *out,
                               int *exit_code) {
    const struct str arg = argc > 1 ? str_from(argv[1]) : (struct str){0};

    *exit_code = 0;
    if (argc == 1 || (argc == 2 && is_command(spec, arg))) {
        return load_or_complain(spec, out, false, exit_code);
    }
    if (argc == 2 && str_eq(arg, STR("--check"))) {
        return load_or_complain(spec, out, true, exit_code);
    }
    if (argc == 2 && str_eq(arg, STR("--help"))) {
        config_print_help(spec, stdout);
    } else if (argc == 2 && str_eq(arg, STR("--version"))) {
        (void)printf("%s %s\n", spec->program, version);
    } else {
        (void)fprintf(stderr, "%s: unknown argument \"%s\"; see %s --help\n", spec->program,
                      argc > 2 ? argv[2] : argv[1], spec->program);
        *exit_code = 2;
    }
    return CONFIG_EXIT;
}
