/* A certificate authority and what it vouches for, in a new folder of a test's own. */
#ifndef DAYBOOK_TESTS_SUPPORT_CERTIFICATES_H
#define DAYBOOK_TESTS_SUPPORT_CERTIFICATES_H

/* Makes ca.pem, server.pem with server.key (for 127.0.0.1 alone), client.pem with client.key, and
 * other-ca.pem, which vouches for nobody. Readable by the caller alone. The folder; static. */
const char *certificates_make(void);
/* Deletes the folder with all that is in it. */
void certificates_delete(void);

#endif
