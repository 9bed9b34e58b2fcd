package Welcome;

# The application: wait a second, play "welcome", wait another second.
# The servers and the local script beside this file all run it.
#
# Environment, so that tests can make hundreds of calls, or calls that last:
#   FASTAGI_WAIT         seconds before the sound (1)
#   FASTAGI_WAIT_AFTER   seconds after it (as FASTAGI_WAIT)
#   FASTAGI_SOUND        what to play (welcome), unless the script's query says it: ?sound=beep
#   FASTAGI_DIGITS       keys by which the caller ends the sound (none)
#   FASTAGI_NAME         at the end, set the variable SERVED to this (not set)

use strict;
use warnings;
use Asterisk::AGI;
use Time::HiRes ();

# run serves one call on standard input and output, and calls $log with a line
# for each step.
sub run {
    my ($log) = @_;
    local $| = 1;
    my $hung_up = 0;
    my $agi = Asterisk::AGI->new;
    $agi->setcallback(sub { $hung_up = 1 });    # without it, AGI.pm goes on blindly
    my %env = $agi->ReadParse();
    my $call = $env{uniqueid} // '?';
    my $before = $ENV{FASTAGI_WAIT} // 1;
    my $after = $ENV{FASTAGI_WAIT_AFTER} // $before;
    my ($sound) = ($env{network_script} // '') =~ /[?&]sound=([\w-]+)/;
    $sound //= $ENV{FASTAGI_SOUND} // 'welcome';

    $log->("call $call begins: $env{request}");
    Time::HiRes::sleep($before);
    $log->("call $call plays");
    my $digit = $agi->stream_file($sound, $ENV{FASTAGI_DIGITS});
    if (!$hung_up && defined $digit && $digit >= 0) {
        Time::HiRes::sleep($after);
        $agi->set_variable('SERVED', $ENV{FASTAGI_NAME}) if $ENV{FASTAGI_NAME};
    }
    $log->("call $call ends" . ($hung_up ? ': hung up' : ''));
}

1;
