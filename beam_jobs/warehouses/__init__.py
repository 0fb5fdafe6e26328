"""Where prediction tables live, behind one small protocol."""
