#!/usr/bin/perl
# A collector for the test, of what every Debian has: prints the body of each request on a line of its
# standard output, its header x-collector-key on its standard error, and takes it.
use strict;
use warnings;
use IO::Socket::INET;

$| = 1;
$SIG{CHLD} = 'IGNORE';
my $server = IO::Socket::INET->new(LocalPort => 4318, Listen => 64, ReuseAddr => 1) or die "listen: $!";
while (my $client = $server->accept) {
    if (fork) { close $client; next; }
    while (defined(my $line = <$client>)) {
        my $length = 0;
        while (defined($line = <$client>) && $line !~ /^\r?$/) {
            $length = $1 if $line =~ /^content-length:\s*(\d+)/i;
            print STDERR "key: $1\n" if $line =~ /^x-collector-key:\s*(.*?)\s*$/i;
        }
        read($client, my $body, $length) == $length or last;
        print "$body\n";
        print $client "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        $client->flush;
    }
    exit;
}
