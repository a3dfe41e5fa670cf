-- Each build has a number that no other had. It is the epoch of its checkpoints, so that a rebuild which was stopped,
-- lost its lock and comes to life while another builds finds that the place is no longer its own.
CREATE SEQUENCE daybook.builds;
GRANT USAGE ON SEQUENCE daybook.builds TO daybook_projector;
