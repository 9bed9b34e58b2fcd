#!/usr/bin/perl
# FastAGI server that forks a process for each call.   fastagi-fork.pl [PORT]
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;

package Server;
use parent 'FastAGI', 'Net::Server::Fork';
use POSIX ();

# A child means to close the sockets that its parent listens on, but Net::Server
# 2.013 leaves them open. Connections would go on being taken when the parent has
# died, and nobody would ever serve them.
my @listening;
sub post_bind_hook  { @listening = map { fileno $_ } @{ $_[0]{server}{sock} } }
sub child_init_hook { POSIX::close($_) for @listening }

package main;
Server->serve($ARGV[0]);
