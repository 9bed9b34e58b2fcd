package Survey;

# A call whose time is Asterisk's: it waits, plays and asks for keys, and thinks
# about nothing in between. Only the servers run it.
#
# The script's query says how long a call takes, in seconds: ?seconds=4.5 (2).
# When the script begins it sets the variable BEGUN, and as its last act SERVED, to
# FASTAGI_NAME from the environment.

use strict;
use warnings;
use Asterisk::AGI;

# run serves one call on standard input and output, and calls $log with a line
# for each step.
sub run {
    my ($log) = @_;
    local $| = 1;
    my $hung_up = 0;
    my $agi = Asterisk::AGI->new;
    $agi->setcallback(sub { $hung_up = 1 });
    my %env = $agi->ReadParse();
    my $call = $env{uniqueid} // '?';
    my ($seconds) = ($env{network_script} // '') =~ /[?&]seconds=([\d.]+)/;
    $seconds //= 2;
    my $name = $ENV{FASTAGI_NAME} // '?';

    $log->("call $call begins: $env{request}");
    for my $step (
        sub { $agi->set_variable('BEGUN', $name) },
        sub { $agi->exec('Wait', 0.3 * $seconds) },
        sub { $agi->stream_file('beep') },
        sub { $agi->wait_for_digit(int(400 * $seconds)) },
        sub { $agi->get_data('beep', int(300 * $seconds), 1) },
        sub { $agi->set_variable('SERVED', $name) },
        )
    {
        $step->();
        last if $hung_up;
    }
    $log->("call $call ends" . ($hung_up ? ': hung up' : ''));
}

1;
