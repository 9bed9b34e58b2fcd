#!/usr/bin/perl
# FastAGI server that forks a process for each call.   fastagi-fork.pl [PORT]
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;

package Server;
use parent 'FastAGI', 'Net::Server::Fork';

package main;
Server->serve($ARGV[0]);
