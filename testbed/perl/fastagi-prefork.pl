#!/usr/bin/perl
# FastAGI server with waiting children.   fastagi-prefork.pl [PORT]
#
# It shows what a proxy has to cope with: when all children are on calls, further
# connections lie in the kernel's queue, connected but mute.
#
# Environment:
#   FASTAGI_MIN   children at the start (2)
#   FASTAGI_MAX   children at most (4)
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;

package Server;
use parent 'FastAGI', 'Net::Server::PreFork';

sub default_values {
    my $max = $ENV{FASTAGI_MAX} // 4;
    return {
        min_servers       => $ENV{FASTAGI_MIN} // 2,
        max_servers       => $max,
        min_spare_servers => 1,
        max_spare_servers => $max - 1,
        max_requests      => 1000,
    };
}

package main;
Server->serve($ARGV[0]);
